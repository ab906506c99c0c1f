//! The precision of a memory bank.

use serde::{Deserialize, Serialize};

/// How bank vectors are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BankType {
    /// Half precision.
    #[default]
    F16,
    /// Single precision.
    F32,
}
