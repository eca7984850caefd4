use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::RateLimits;
use crate::limiter::Standing;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The fields of draft-ietf-httpapi-ratelimit-headers, lists of structured fields (RFC 9651): the policies, which stay the same, and
/// where the tenant stands with each of them.
#[derive(Debug)]
pub struct Fields {
    tenant: HeaderValue,
    with_tool: BTreeMap<&'static str, HeaderValue>,
}

impl Fields {
    pub fn new(limits: &RateLimits) -> Self {
        let tenant = format!(r#""tenant";q={};w=60"#, limits.per_tenant);
        let with_tool =
            limits.per_tool.iter().map(|(tool, limit)| (*tool, value(&format!(r#"{tenant}, "tool";q={limit};w=60"#))));
        Self { with_tool: with_tool.collect(), tenant: value(&tenant) }
    }

    pub fn write(&self, headers: &mut HeaderMap, tenant: Standing, tool: Option<(&'static str, Standing)>) {
        let mut standing = format!(r#""tenant";r={};t={}"#, tenant.remaining, tenant.reset);
        let mut policy = &self.tenant;
        if let Some((name, tool)) = tool {
            standing.push_str(&format!(r#", "tool";r={};t={}"#, tool.remaining, tool.reset));
            policy = self.with_tool.get(name).unwrap_or(policy);
        }
        headers.insert(RATE_LIMIT_POLICY, policy.clone());
        headers.insert(RATE_LIMIT, value(&standing));
    }
}

/// Digits and a few signs are always a value.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_structured_fields_as_the_draft_has_them() {
        let fields = Fields::new(&RateLimits { per_tenant: 6_000, per_tool: BTreeMap::from([("task.create", 60)]) });
        let written = |tool| {
            let mut headers = HeaderMap::new();
            fields.write(&mut headers, Standing { limit: 6_000, remaining: 12, reset: 34 }, tool);
            let text = |name| headers[name].to_str().unwrap().to_owned();
            [text("RateLimit-Policy"), text("RateLimit")]
        };
        assert_eq!(written(None), [r#""tenant";q=6000;w=60"#, r#""tenant";r=12;t=34"#]);
        let with_tool = written(Some(("task.create", Standing { limit: 60, remaining: 0, reset: 5 })));
        assert_eq!(with_tool, [r#""tenant";q=6000;w=60, "tool";q=60;w=60"#, r#""tenant";r=12;t=34, "tool";r=0;t=5"#]);
    }
}
