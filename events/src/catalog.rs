use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::tools::{self, Contract};

/// The contracts that a process knows: those of this release, and those it discovered. Clones share what is discovered.
#[derive(Clone, Debug, Default)]
pub struct Catalog(Arc<RwLock<BTreeMap<&'static str, &'static Contract>>>);

impl Catalog {
    /// The contract called `name`.
    pub fn find(&self, name: &str) -> Option<&'static Contract> {
        tools::find(name).or_else(|| self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).copied())
    }

    /// Every contract: those of this release first, in the order of the registry.
    pub fn all(&self) -> Vec<&'static Contract> {
        let discovered = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tools::all().iter().chain(discovered.values().copied()).collect()
    }

    /// Replaces what was discovered before. A name of this release stays what it is.
    pub fn replace(&self, discovered: impl IntoIterator<Item = &'static Contract>) {
        let discovered = discovered.into_iter().map(|contract| (contract.name, contract)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = discovered;
    }
}
