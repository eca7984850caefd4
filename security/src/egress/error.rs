/// Why a request to the outside was not answered. The words are for the caller: they never hold an address, a URL or a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// It was not sent, or not sent on.
    #[error("{0}")]
    Blocked(Rule),
    #[error("the host's name cannot be resolved")]
    Unresolvable,
    #[error("the host does not accept the connection")]
    Connect,
    #[error("the answer took too long")]
    Timeout,
    /// The request was sent; what could not be reached is where its answer leads.
    #[error("the place that the answer leads to cannot be reached")]
    RedirectUnreachable,
    #[error("the answer's headers are larger than the limit")]
    HeadersTooLarge,
    #[error("the answer was redirected too often")]
    TooManyRedirects,
    #[error("the answer is not HTTP, or ended early")]
    Protocol,
}

/// What forbids a request to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    #[error("the URL is not one that every reader understands alike (rule: url)")]
    Url,
    #[error("only http and https are spoken (rule: scheme)")]
    Scheme,
    #[error("the URL carries credentials (rule: userinfo)")]
    Userinfo,
    #[error("the host and port are not on the allow-list (rule: allow-list)")]
    AllowList,
    #[error("the host is in a network that tools may not reach (rule: network)")]
    Network,
    #[error("a header is not the caller's to set (rule: header)")]
    Header,
    #[error("the answer leads to a place that cannot be followed (rule: redirect)")]
    Redirect,
    #[error("the answer leads from https to http (rule: downgrade)")]
    Downgrade,
}

impl Rule {
    /// As it is named to operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Scheme => "scheme",
            Self::Userinfo => "userinfo",
            Self::AllowList => "allow-list",
            Self::Network => "network",
            Self::Header => "header",
            Self::Redirect => "redirect",
            Self::Downgrade => "downgrade",
        }
    }
}

impl From<Rule> for EgressError {
    fn from(rule: Rule) -> Self {
        Self::Blocked(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_rule() {
        let rules = [
            Rule::Url,
            Rule::Scheme,
            Rule::Userinfo,
            Rule::AllowList,
            Rule::Network,
            Rule::Header,
            Rule::Redirect,
            Rule::Downgrade,
        ];
        for rule in rules {
            assert!(EgressError::from(rule).to_string().ends_with(&format!("(rule: {})", rule.name())), "{rule}");
        }
    }
}
