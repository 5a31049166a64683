//! Decimal numbers as texts, with all of their digits.

/// The most digits before the point that an exponent makes: as many as a JSON number of 64 bits may
/// have. Digits that are written count for themselves.
const MOST_WHOLE: i64 = 310;
/// The most digits after it.
const MOST_FRACTION: i64 = 400;

/// A number in its shortest plain notation: `1.50e2` is `150`. `None` if it is not a number, or has
/// more digits than a database stores.
pub(crate) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
    let leading = digits.bytes().take_while(|b| *b == b'0').count();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let point = point - i64::try_from(leading).ok()?;
    let length = i64::try_from(significant.len()).ok()?;
    let written = i64::try_from(text.len()).ok()?;
    if point > MOST_WHOLE.max(written) || length - point > MOST_FRACTION.max(written) {
        return None;
    }
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    let sign = if negative { "-" } else { "" };
    Some(if point <= 0 {
        format!("{sign}0.{}{significant}", zeros(-point))
    } else if point >= length {
        format!("{sign}{significant}{}", zeros(point - length))
    } else {
        let (whole, fraction) = significant.split_at(usize::try_from(point).ok()?);
        format!("{sign}{whole}.{fraction}")
    })
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_number_has_one_notation() {
        for (text, expected) in [
            ("0", "0"),
            ("-0.00", "0"),
            ("12.50", "12.5"),
            ("+7", "7"),
            ("007", "7"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1.5e3", "1500"),
            ("1e-3", "0.001"),
            ("-12345678901234567890.123456789", "-12345678901234567890.123456789"),
            ("1.0e+20", "100000000000000000000"),
        ] {
            assert_eq!(plain(text).as_deref(), Some(expected), "{text}");
        }
        let long = format!("{}.{}", "7".repeat(500), "3".repeat(500));
        assert_eq!(plain(&long).as_ref(), Some(&long));
        for text in [
            "",
            "-",
            ".",
            "1e",
            "1e999",
            "NaN",
            "0x1",
            "1 2",
            "1,5",
            "--1",
            "1e99999999999",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
    }
}
