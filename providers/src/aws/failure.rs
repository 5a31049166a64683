//! Classifies failed calls.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId as _;
use tenantry_core::ProviderError;

use crate::remote::retry_after;

/// Codes by which AWS refuses a caller, or a key refuses to decrypt.
const DENIED: [&str; 16] = [
    "AccessDenied",
    "AccessDeniedException",
    "DecryptionFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidIdentityToken",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// Codes by which AWS says that it is asked too often (the standard retry mode's list).
const THROTTLED: [&str; 14] = [
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
];

/// The printable facts of a failed call. The SDK's own error is dropped, since its Debug contains
/// the whole answer, which may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

/// What a failed call means.
pub(crate) fn of_call<E: ProvideErrorMetadata + Error + 'static>(error: SdkError<E, HttpResponse>) -> ProviderError {
    match &error {
        SdkError::ServiceError(context) => {
            of_answer(context.err().meta().code(), context.err().message(), context.raw())
        }
        SdkError::ResponseError(_) => unavailable("its answer cannot be read"),
        SdkError::TimeoutError(_) => unavailable("it did not answer in time"),
        // What was never sent, and what got no answer; no part of a secret can be in either.
        _ => of_no_answer(&error),
    }
}

/// By the answer's code, else by its status.
fn of_answer(code: Option<&str>, message: Option<&str>, raw: &HttpResponse) -> ProviderError {
    let status = raw.status().as_u16();
    // A body of a successful answer that could not be parsed may contain a secret, so nothing of it
    // is reported.
    if (200..300).contains(&status) {
        return unavailable("its answer cannot be read");
    }
    let mut told = format!("it answered HTTP {status}");
    for (before, detail) in [(" ", code), (": ", message), (", request ", raw.headers().request_id())] {
        if let Some(detail) = detail {
            told.extend([before, detail]);
        }
    }
    let failure = Box::new(Failure(told));
    match code.unwrap_or_default() {
        code if DENIED.contains(&code) => ProviderError::Denied(failure),
        code if THROTTLED.contains(&code) || status == 429 => ProviderError::Throttled {
            retry_after: raw.headers().get("retry-after").and_then(retry_after),
            source: failure,
        },
        _ if status == 401 || status == 403 => ProviderError::Denied(failure),
        "InternalServiceError"
        | "InternalFailure"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "ServiceUnavailable" => ProviderError::Unavailable(failure),
        _ if status == 408 => ProviderError::Unavailable(failure),
        // A request that AWS calls wrong stays wrong: someone must mend name, key or policy.
        code if !code.is_empty() && (400..500).contains(&status) => ProviderError::Denied(failure),
        _ => ProviderError::Unavailable(failure),
    }
}

fn of_no_answer(error: &(dyn Error + 'static)) -> ProviderError {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    let mut texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
    // Some of the SDK's errors print their source as well.
    texts.dedup();
    let told = texts.join(": ");
    let credentials = causes.iter().find_map(|cause| cause.downcast_ref::<CredentialsError>());
    let denied = match credentials {
        None | Some(CredentialsError::ProviderTimedOut(_)) => false,
        Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => true,
        // The source of credentials failed: did it deny access, or was it unavailable?
        Some(_) => DENIED.iter().any(|code| told.contains(code)),
    };
    let failure = Box::new(Failure(told));
    if denied {
        ProviderError::Denied(failure)
    } else {
        ProviderError::Unavailable(failure)
    }
}

fn unavailable(reason: &str) -> ProviderError {
    ProviderError::Unavailable(Box::new(Failure(reason.to_owned())))
}
