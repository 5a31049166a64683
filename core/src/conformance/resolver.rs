//! What every resolver must do.
