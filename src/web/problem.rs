//! Why there is no answer: an HTTP status and one sentence, as `{"error": "…"}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// The body of an answer that is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong and what to do.
    pub error: String,
    /// Its class, in the response's first line.
    #[serde(skip)]
    pub status: StatusCode,
}

impl Problem {
    /// A problem of this class.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { error: error.into(), status }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}
