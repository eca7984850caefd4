use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use toolgate_events::TenantId;

use crate::Problem;

/// Places for requests that are worked on at the same time. Nobody waits for one: what finds none is refused at once.
#[derive(Clone, Debug)]
pub struct Places(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    most: usize,
    taken: AtomicUsize,
    by_tenant: Mutex<HashMap<TenantId, usize>>,
}

/// One place. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    places: Places,
    tenant: OnceLock<TenantId>,
}

impl Places {
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Counts { most, taken: AtomicUsize::new(0), by_tenant: Mutex::default() }))
    }

    fn take(&self) -> Option<Place> {
        let Counts { most, taken, .. } = self.0.as_ref();
        let free = |taken: usize| (taken < *most).then_some(taken + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Place { places: self.clone(), tenant: OnceLock::new() })
    }

    /// Half of the places, so that no tenant can keep the others out.
    fn most_of_one_tenant(&self) -> usize {
        (self.0.most / 2).max(1)
    }

    fn by_tenant(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, usize>> {
        // Whole numbers stay consistent whatever panicked while holding them.
        self.0.by_tenant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Says whose the place is, once that is known.
    ///
    /// # Errors
    /// 429 when the tenant has half of the places already.
    pub(crate) fn belongs_to(&self, tenant: TenantId) -> Result<(), Problem> {
        let most = self.places.most_of_one_tenant();
        let mut by_tenant = self.places.by_tenant();
        let taken = by_tenant.entry(tenant).or_default();
        if *taken >= most {
            let detail = format!("this tenant has {most} requests under way, which is as many as it may have at the same time");
            return Err(Problem::rate_limited(detail, 1));
        }
        if self.tenant.set(tenant).is_ok() {
            *taken += 1;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.taken.fetch_sub(1, Ordering::Relaxed);
        let Some(tenant) = self.tenant.get() else { return };
        let mut by_tenant = self.places.by_tenant();
        if let Some(taken) = by_tenant.get_mut(tenant) {
            *taken -= 1;
            if *taken == 0 {
                by_tenant.remove(tenant);
            }
        }
    }
}

/// The layer that sheds load. A request holds its place until its answer begins, waiting for an outcome included; the body of a
/// stream that has begun holds none.
pub async fn hold_a_place(State(places): State<Places>, mut request: Request, next: Next) -> Response {
    let Some(place) = places.take() else {
        return Problem::unavailable("too many requests are under way; nothing was accepted").into_response();
    };
    let place = Arc::new(place);
    request.extensions_mut().insert(Arc::clone(&place));
    let response = next.run(request).await;
    drop(place);
    response
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ProblemKind;

    fn tenant(number: u128) -> TenantId {
        TenantId(Uuid::from_u128(number))
    }

    #[test]
    fn there_are_as_many_places_as_there_are() {
        let places = Places::new(3);
        let mut held: Vec<_> = (0..3).map(|_| places.take().unwrap()).collect();
        assert!(places.take().is_none());
        held.pop();
        held.push(places.take().unwrap());
        assert!(places.take().is_none());
        drop(held);
        assert_eq!(places.0.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_tenant_has_half_of_them_and_another_finds_room() {
        for (most, share) in [(1, 1), (2, 1), (3, 1), (4, 2), (10, 5)] {
            let places = Places::new(most);
            let mut held = Vec::new();
            for _ in 0..share {
                let place = places.take().unwrap();
                assert!(place.belongs_to(tenant(1)).is_ok(), "{most}");
                held.push(place);
            }
            if most > 1 {
                let place = places.take().unwrap();
                assert_eq!(place.belongs_to(tenant(1)).unwrap_err().kind(), ProblemKind::RateLimited, "{most}");
                assert!(place.belongs_to(tenant(2)).is_ok(), "{most}");
                drop(place);
                held.pop();
                let place = places.take().unwrap();
                assert!(place.belongs_to(tenant(1)).is_ok(), "{most}: one was given back");
            }
            drop(held);
            assert_eq!(places.0.taken.load(Ordering::Relaxed), 0);
            assert!(places.by_tenant().is_empty(), "nothing is remembered of tenants that hold nothing");
        }
    }
}
