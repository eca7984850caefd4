use chrono::{DateTime, Utc};
use toolgate_events::tools::KnowledgeReference;

/// What a query says of a document that is to be cited.
#[derive(Debug, sqlx::FromRow)]
pub struct Row {
    document_id: String,
    title: String,
    locale: Option<String>,
    source: Option<String>,
    updated_at: DateTime<Utc>,
    position: i64,
    content_sha256: String,
}

/// The columns of a [`Row`], of a knowledge_document.
macro_rules! columns {
    () => {
        "document_id, title, locale, coalesce(source, metadata->>'source') as source, updated_at, position,
         encode(sha256(convert_to(content, 'UTF8')), 'hex') as content_sha256"
    };
}
pub(super) use columns;

impl From<Row> for KnowledgeReference {
    fn from(row: Row) -> Self {
        let Row { document_id, title, locale, source, updated_at, position, content_sha256 } = row;
        Self { document_id, title, locale, source, updated_at, position: position.to_string(), content_sha256 }
    }
}
