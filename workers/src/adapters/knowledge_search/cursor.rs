//! Where a page ended. It is opaque to the caller and not secret: whoever makes one up sees a page of its own tenant's hits.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::json;
use toolgate_events::{canonical, tools::KnowledgeSearchInput};

use super::{ToolError, candidates::Candidate};

/// What the next page needs to know of the ones before.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// Of the query and its filters: of no other is this the place.
    search: String,
    /// Documents after it were written since the first page.
    pub newest: i64,
    /// The score's bits; written as a number it would not be the same when read.
    score: u64,
    document_id: String,
}

impl Cursor {
    /// After `last`, of a search in the documents up to `newest`.
    pub fn after(last: &Candidate, newest: i64, search: String) -> Self {
        Self { search, newest, score: last.score.to_bits(), document_id: last.document_id.clone() }
    }

    /// # Errors
    /// [`ToolError::InvalidArguments`] when it is none, or of another search.
    pub fn open(cursor: &str, search: &str) -> Result<Self, ToolError> {
        let cursor: Option<Self> = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let is_of_this = |cursor: &Self| cursor.search == search;
        cursor
            .filter(is_of_this)
            .ok_or_else(|| ToolError::InvalidArguments("the cursor is not of this query and filters".to_owned()))
    }

    pub fn seal(&self) -> Result<String, ToolError> {
        Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?))
    }

    /// Whether a page that begins here may show it.
    pub fn is_before(&self, candidate: &Candidate) -> bool {
        let last = Candidate { document_id: self.document_id.clone(), score: f64::from_bits(self.score), position: 0 };
        last.cmp_rank(candidate).is_lt()
    }
}

/// What tells a search from others, page sizes aside.
pub fn fingerprint(input: &KnowledgeSearchInput, locale: Option<&str>) -> Result<String, ToolError> {
    let mut sha256 = canonical::sha256_hex(&json!([input.query, serde_json::to_value(&input.filters)?, locale]));
    sha256.truncate(16);
    Ok(sha256)
}
