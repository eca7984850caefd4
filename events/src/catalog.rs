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
        let is_new = |contract: &&'static Contract| tools::find(contract.name).is_none();
        let offered = offered.into_iter().filter(is_new).map(|contract| (contract.name, contract)).collect();
        let withheld = withheld.into_iter().filter(is_new).map(|contract| (contract.name, contract)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Discovered { offered, withheld };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contract as a server would describe it; it lives as long as the process, as what is discovered does.
    fn discovered(name: &'static str, description: &'static str) -> &'static Contract {
        let contract = Contract { name, description, ..tools::all()[0].clone() };
        Box::leak(Box::new(contract))
    }

    fn described(catalog: &Catalog, name: &str) -> Option<&'static str> {
        catalog.find(name).map(|contract| contract.description)
    }

    #[test]
    fn a_name_of_this_release_stays_what_it_is() {
        let (catalog, own) = (Catalog::default(), &tools::all()[0]);
        catalog.replace([discovered(own.name, "an impostor"), discovered("mcp.files.read", "reads")], []);
        assert!(std::ptr::eq(catalog.find(own.name).unwrap(), own));
        assert_eq!(described(&catalog, "mcp.files.read"), Some("reads"));
        let names: Vec<_> = catalog.all().iter().map(|contract| contract.name).collect();
        let own_names = tools::all().iter().map(|contract| contract.name);
        assert_eq!(names, own_names.chain(["mcp.files.read"]).collect::<Vec<_>>(), "a name is listed once, and ours come first");
    }

    #[test]
    fn what_was_discovered_before_is_replaced() {
        let catalog = Catalog::default();
        catalog.replace([discovered("mcp.b.x", "first"), discovered("mcp.a.x", "first")], []);
        catalog.replace([discovered("mcp.b.x", "second")], []);
        assert_eq!(described(&catalog, "mcp.b.x"), Some("second"));
        assert_eq!(described(&catalog, "mcp.a.x"), None);
        catalog.replace([], []);
        assert_eq!(catalog.all().len(), tools::all().len());
    }

    #[test]
    fn clones_share_what_is_discovered() {
        let catalog = Catalog::default();
        let clone = catalog.clone();
        catalog.replace([discovered("mcp.a.x", "shared")], []);
        assert_eq!(described(&clone, "mcp.a.x"), Some("shared"));
        assert_eq!(described(&Catalog::default(), "mcp.a.x"), None, "another process' catalog");
    }
}
