use std::{
    sync::{Arc, LazyLock},
    thread::available_parallelism,
    time::Instant,
};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use toolgate_events::{
    canonical,
    tools::{DocumentFormat, DocumentRenderInput, DocumentRenderOutput},
};
use toolgate_render::{Document, Error, Format, Rendered, render};
use toolgate_store::Scope;
use uuid::Uuid;

use super::{Call, ToolError, answer, template::Template};
use crate::Environment;

/// How many documents the process makes at once: each takes a core and some memory. A place is given back when the work ends, which
/// may be a little after its call was given up.
static PLACES: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from).max(2))));

/// The artifact's id follows from the call's and from the bytes: running twice leaves one artifact, and where the latest template is
/// another one the second time, no outcome's artifact is ever overwritten with other bytes.
pub async fn run(call: &Call, environment: &Environment) -> Result<Value, ToolError> {
    let input: DocumentRenderInput = call.arguments()?;
    let template = match (&input.markdown, &input.template_id) {
        (Some(_), None) => None,
        (None, Some(id)) => Some(Template::find(call, environment, id, input.template_version).await?),
        _ => return Err(ToolError::InvalidArguments("exactly one of markdown and template_id is needed".to_owned())),
    };
    let markdown = template.as_ref().map(|template| template.markdown.clone()).or(input.markdown).unwrap_or_default();
    // A template is filled in even where there is nothing to fill it with.
    let data = input.data.or_else(|| template.is_some().then(Map::new));
    let format = match input.format {
        DocumentFormat::Html => Format::Html,
        DocumentFormat::Pdf => Format::Pdf,
    };
    let rendered = in_place(call, input.title, markdown, data, format).await?;

    let sha256 = canonical::hex(&Sha256::digest(&rendered.bytes));
    let artifact_id = Uuid::new_v5(&call.call_id.0, format!("artifact {sha256}").as_bytes());
    environment
        .artifacts
        .put(call.tenant_id, &Scope::of(call.data_subject.as_deref()), artifact_id, &rendered.bytes)
        .await
        .map_err(|error| ToolError::Infrastructure(error.to_string()))?;
    answer(&DocumentRenderOutput {
        artifact_id,
        content_type: match format {
            Format::Html => "text/html; charset=utf-8",
            Format::Pdf => "application/pdf",
        }
        .to_owned(),
        size: rendered.bytes.len() as u64,
        sha256,
        pages: rendered.pages.and_then(|pages| u32::try_from(pages).ok()),
        template_version: template.as_ref().map(Template::version),
        template_sha256: template.map(|template| template.sha256),
    })
}

/// Renders on a thread where it may take its time, and tells it when nobody waits any more.
async fn in_place(
    call: &Call,
    title: String,
    markdown: String,
    data: Option<Map<String, Value>>,
    format: Format,
) -> Result<Rendered, ToolError> {
    let place = Arc::clone(&PLACES).acquire_owned().await.map_err(|error| ToolError::Internal(error.to_string()))?;
    let (deadline, cancelled, locale) = (call.deadline, call.cancelled.clone(), call.options.locale.clone());
    let work = move || {
        let _place = place;
        let document = Document { title: &title, markdown: &markdown, data: data.as_ref(), locale: locale.as_deref() };
        render(&document, format, &|| cancelled.is_cancelled() || Instant::now() > deadline)
    };
    let rendered = tokio::task::spawn_blocking(work).await.map_err(|panic| ToolError::Internal(panic.to_string()))?;
    match rendered {
        Ok(rendered) => Ok(rendered),
        Err(error @ (Error::Template(_) | Error::TooMuch { .. })) => Err(ToolError::InvalidArguments(error.to_string())),
        Err(error @ Error::Fault(_)) => Err(ToolError::Internal(error.to_string())),
        // Whoever gave the attempt up is about to say so, and why.
        Err(Error::Stopped) => std::future::pending().await,
    }
}
