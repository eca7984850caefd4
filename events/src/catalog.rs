use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::tools::{self, Contract};

/// The contracts that a process knows: those of this release, and those it discovered. Clones share what is discovered.
#[derive(Clone, Debug, Default)]
pub struct Catalog(Arc<RwLock<Discovered>>);

#[derive(Debug, Default)]
struct Discovered {
    offered: BTreeMap<&'static str, &'static Contract>,
    /// Known by name, and not offered to anybody.
    withheld: BTreeMap<&'static str, &'static Contract>,
}

impl Catalog {
    /// The contract called `name`.
    pub fn find(&self, name: &str) -> Option<&'static Contract> {
        let discovered = || {
            let discovered = self.0.read().unwrap_or_else(PoisonError::into_inner);
            discovered.offered.get(name).or_else(|| discovered.withheld.get(name)).copied()
        };
        tools::find(name).or_else(discovered)
    }

    /// Every contract that is offered: those of this release first, in the order of the registry.
    pub fn all(&self) -> Vec<&'static Contract> {
        let discovered = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tools::all().iter().chain(discovered.offered.values().copied()).collect()
    }

    /// Replaces what was discovered before. A name of this release stays what it is. What is withheld can still be found by its
    /// name, so that who knows it learns why it is not run.
    pub fn replace(
        &self,
        offered: impl IntoIterator<Item = &'static Contract>,
        withheld: impl IntoIterator<Item = &'static Contract>,
    ) {
        let offered = offered.into_iter().map(|contract| (contract.name, contract)).collect();
        let withheld = withheld.into_iter().map(|contract| (contract.name, contract)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Discovered { offered, withheld };
    }
}
