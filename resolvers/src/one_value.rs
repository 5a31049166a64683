//! Values that a request may contain once, or again with the same value.

use tenantry_core::MalformedReason;

/// The single value; `None` if there is none, an error if two differ.
pub(crate) fn one_value<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Result<Option<T>, MalformedReason> {
    let mut values = values.into_iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.any(|other| other != first) {
        return Err(MalformedReason::Ambiguous);
    }
    Ok(Some(first))
}
