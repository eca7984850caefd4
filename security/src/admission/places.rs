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

/// Places for what goes on at the same time. Nobody waits for one: what finds none is refused at once.
#[derive(Clone, Debug)]
pub struct Places(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    /// What takes the places, for refusals.
    of: &'static str,
    most: usize,
    most_of_one_tenant: usize,
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
    /// Places for requests under way, a quarter of them for one tenant: no tenant alone can keep the others out, nor can three.
    pub fn for_requests(most: usize) -> Self {
        Self::new("requests under way", most, most / 4)
    }

    /// Places for answers that go on for long: three quarters of the connections, so that requests still find one, and for one
    /// tenant a quarter of the connections, which is a third of these places.
    pub fn for_streams(max_connections: usize) -> Self {
        Self::new("streams open", max_connections.saturating_mul(3) / 4, max_connections / 4)
    }

    fn new(of: &'static str, most: usize, most_of_one_tenant: usize) -> Self {
        let (most, most_of_one_tenant) = (most.max(1), most_of_one_tenant.max(1));
        Self(Arc::new(Counts { of, most, most_of_one_tenant, taken: AtomicUsize::new(0), by_tenant: Mutex::default() }))
    }

    /// A place of the tenant.
    ///
    /// # Errors
    /// 503 when none is left, 429 when the tenant has its share already.
    pub fn take_for(&self, tenant: TenantId) -> Result<Place, Problem> {
        let place = self.take()?;
        place.belongs_to(tenant)?;
        Ok(place)
    }

    fn take(&self) -> Result<Place, Problem> {
        let Counts { of, most, taken, .. } = self.0.as_ref();
        let free = |taken: usize| (taken < *most).then_some(taken + 1);
        match taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free) {
            Ok(_) => Ok(Place { places: self.clone(), tenant: OnceLock::new() }),
            Err(_) => Err(Problem::unavailable(format!("there are too many {of}; nothing was accepted"))),
        }
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
    /// 429 when the tenant has its share of the places already.
    pub(crate) fn belongs_to(&self, tenant: TenantId) -> Result<(), Problem> {
        let Counts { of, most_of_one_tenant: most, .. } = self.places.0.as_ref();
        let mut by_tenant = self.places.by_tenant();
        let taken = by_tenant.entry(tenant).or_default();
        if *taken >= *most {
            let detail = format!("this tenant has {most} {of}, which is as many as it may have at the same time");
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

/// The layer that sheds load. A request holds its place until its answer begins, waiting for an outcome included; a stream
/// that has begun has a place among the streams instead.
pub async fn hold_a_place(State(places): State<Places>, mut request: Request, next: Next) -> Response {
    let place = match places.take() {
        Ok(place) => Arc::new(place),
        Err(problem) => return problem.into_response(),
    };
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
        let places = Places::for_requests(3);
        let mut held: Vec<_> = (0..3).map(|_| places.take().unwrap()).collect();
        assert_eq!(places.take().unwrap_err().kind(), ProblemKind::Unavailable);
        held.pop();
        held.push(places.take().unwrap());
        assert!(places.take().is_err());
        drop(held);
        assert_eq!(places.0.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_tenant_has_its_share_and_another_finds_room() {
        for (most, share) in [(2, 1), (7, 1), (8, 2), (40, 10)] {
            let places = Places::for_requests(most);
            let mut held: Vec<_> = (0..share).map(|_| places.take_for(tenant(1)).unwrap()).collect();
            assert_eq!(places.take_for(tenant(1)).unwrap_err().kind(), ProblemKind::RateLimited, "{most}");
            assert_eq!(places.0.taken.load(Ordering::Relaxed), share, "{most}: a refusal holds no place");
            held.push(places.take_for(tenant(2)).unwrap());
            held.remove(0);
            held.push(places.take_for(tenant(1)).unwrap());
            drop(held);
            assert_eq!(places.0.taken.load(Ordering::Relaxed), 0);
            assert!(places.by_tenant().is_empty(), "nothing is remembered of tenants that hold nothing");
        }
    }

    #[test]
    fn three_tenants_cannot_keep_a_fourth_out() {
        let places = Places::for_requests(8);
        let _held: Vec<_> = [1, 1, 2, 2, 3, 3].map(|number| places.take_for(tenant(number)).unwrap()).into();
        assert!(places.take_for(tenant(4)).is_ok());
    }

    #[test]
    fn streams_have_a_part_of_the_connections() {
        for (connections, most, share) in [(0, 1, 1), (1, 1, 1), (4, 3, 1), (7, 5, 1), (8, 6, 2), (20_000, 15_000, 5_000)] {
            let places = Places::for_streams(connections);
            assert_eq!((places.0.most, places.0.most_of_one_tenant), (most, share), "{connections}");
        }
    }

    #[test]
    fn a_refusal_says_what_there_is_too_much_of() {
        let text = |problem: Problem| String::from_utf8(problem.body(None)).unwrap();
        let places = Places::for_streams(8);
        let mut held = vec![places.take_for(tenant(1)).unwrap(), places.take_for(tenant(1)).unwrap()];
        assert!(text(places.take_for(tenant(1)).unwrap_err()).contains("this tenant has 2 streams open, which is as many"));
        held.extend([2, 2, 3, 3].map(|number| places.take_for(tenant(number)).unwrap()));
        assert!(text(places.take_for(tenant(4)).unwrap_err()).contains("there are too many streams open; nothing was accepted"));
    }
}
