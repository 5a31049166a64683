//! Which tenants are migrated one after another, and when a run stops.

use std::{collections::BTreeSet, str::FromStr};

use tenantry_core::TenantId;

/// Some of the tenants: those that a run migrates before it begins with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wave {
    /// The next so many.
    Count(usize),
    /// The next ones, until this share of all tenants was in some wave.
    Percent(u8),
    /// These.
    Tenants(Vec<String>),
}

impl FromStr for Wave {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(share) = text.strip_suffix('%') {
            return Ok(Self::Percent(percent(share)?));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Count(count(text)?));
        }
        let ids: Vec<String> = text
            .split(',')
            .map(str::trim)
            .filter(|id| !id.is_empty())
            .map(str::to_owned)
            .collect();
        if ids.is_empty() {
            return Err("is neither a number of tenants, nor a percentage, nor a list of ids".to_owned());
        }
        Ok(Self::Tenants(ids))
    }
}

/// How many failures end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopAfter {
    Failures(usize),
    /// A share of all tenants of the run.
    Percent(u8),
}

impl FromStr for StopAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            Some(share) => Ok(Self::Percent(percent(share)?)),
            None => Ok(Self::Failures(count(text)?)),
        }
    }
}

impl StopAfter {
    /// The failure that ends a run of so many tenants.
    pub(super) fn of(self, tenants: usize) -> usize {
        match self {
            Self::Failures(failures) => failures,
            Self::Percent(share) => share_of(tenants, share).max(1),
        }
    }
}

fn percent(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(share @ 1..=100) => Ok(share),
        _ => Err("is not a percentage from 1% to 100%".to_owned()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("must be a whole number of at least 1".to_owned()),
    }
}

/// Rounded up, so that a share of a few tenants is not none.
fn share_of(tenants: usize, share: u8) -> usize {
    tenants.saturating_mul(usize::from(share)).div_ceil(100)
}

/// The tenants of a run in their waves, and those that are in none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) waves: Vec<Vec<TenantId>>,
    pub(super) left_out: Vec<TenantId>,
}

impl Plan {
    /// Without a wave, all tenants are in one.
    ///
    /// # Errors
    /// A wave names a tenant that is not among them.
    pub(super) fn new(waves: &[Wave], tenants: BTreeSet<TenantId>) -> Result<Self, String> {
        let all = tenants.len();
        if waves.is_empty() {
            return Ok(Self {
                waves: vec![tenants.into_iter().collect()],
                left_out: Vec::new(),
            });
        }
        let known = tenants.clone();
        let mut left = tenants;
        let mut plan = Self::default();
        for wave in waves {
            let size = match wave {
                Wave::Count(count) => *count,
                Wave::Percent(share) => share_of(all, *share).saturating_sub(all - left.len()),
                Wave::Tenants(ids) => {
                    let mut named = Vec::new();
                    for id in ids {
                        let found = known.iter().find(|known| known.as_str() == id);
                        let id = found.ok_or_else(|| format!("there is no tenant `{id}` in this run"))?;
                        if left.remove(id) {
                            named.push(*id);
                        }
                    }
                    plan.waves.push(named);
                    continue;
                }
            };
            let next: Vec<TenantId> = left.iter().take(size).copied().collect();
            for id in &next {
                left.remove(id);
            }
            plan.waves.push(next);
        }
        plan.left_out = left.into_iter().collect();
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants(count: usize) -> BTreeSet<TenantId> {
        (0..count).map(|n| format!("t{n:03}").parse().unwrap()).collect()
    }

    fn sizes(waves: &[&str], count: usize) -> (Vec<usize>, usize) {
        let waves: Vec<Wave> = waves.iter().map(|wave| wave.parse().unwrap()).collect();
        let plan = Plan::new(&waves, tenants(count)).unwrap();
        (plan.waves.iter().map(Vec::len).collect(), plan.left_out.len())
    }

    #[test]
    fn a_percentage_counts_the_tenants_of_earlier_waves() {
        assert_eq!(sizes(&["5", "10%", "100%"], 100), (vec![5, 5, 90], 0));
        assert_eq!(sizes(&["20", "10%", "100%"], 100), (vec![20, 0, 80], 0));
        assert_eq!(sizes(&["1%", "50%"], 7), (vec![1, 3], 3));
        assert_eq!(sizes(&["5", "100%"], 3), (vec![3, 0], 0));
        assert_eq!(sizes(&[], 3), (vec![3], 0));
        assert_eq!(sizes(&["100%"], 0), (vec![0], 0));
    }

    #[test]
    fn a_wave_of_ids_has_those_that_no_earlier_one_had() {
        assert_eq!(sizes(&["t002,t000", "1", "t002", "100%"], 5), (vec![2, 1, 0, 2], 0));
        let unknown = Plan::new(&["t9".parse().unwrap()], tenants(3)).unwrap_err();
        assert!(unknown.contains("`t9`"), "{unknown}");
        assert_eq!("5,".parse(), Ok(Wave::Tenants(vec!["5".to_owned()])));
    }

    #[test]
    fn what_is_no_wave_is_refused() {
        for wrong in ["", "0", "0%", "101%", "-1%", "%", ",", "99999999999999999999999"] {
            assert!(wrong.parse::<Wave>().is_err(), "{wrong}");
        }
        for wrong in ["", "0", "x", "0%", "1,2"] {
            assert!(wrong.parse::<StopAfter>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_of_failures_is_at_least_one() {
        let of = |text: &str, tenants| text.parse::<StopAfter>().unwrap().of(tenants);
        assert_eq!((of("3", 1), of("1%", 1000), of("1%", 3), of("1%", 0)), (3, 10, 1, 1));
    }
}
