//! Decodes request bodies (RFC 9110 §8.4).

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use poem::{Body, Request};

use crate::body_limit::too_large;

/// The codings that are decoded, as `Accept-Encoding` names them.
pub(crate) const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip, deflate");

/// The most codings of one body, to bound the time for decoding.
const MAX_CODINGS: usize = 3;

/// Why a body could not be decoded, inside an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodingError {
    /// It has a coding that is not supported.
    #[error("the body has a coding that is not supported")]
    Unsupported,
    /// It is not what its coding says.
    #[error("the body is not in the coding that it names")]
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

/// Decodes the request's body to at most `limit` bytes. A fault is reported when the handler reads
/// the body, as for the limit itself, so that a client without the right to send the request gets
/// that answer first.
pub(crate) fn decoded(request: &mut Request, body: Body, limit: u64) -> Body {
    let codings = match codings(request.headers()) {
        Ok(codings) if codings.is_empty() => return body,
        Ok(codings) => codings,
        Err(error) => return failing(error),
    };
    let headers = request.headers_mut();
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    Body::from_bytes_stream(stream::once(async move {
        let mut bytes = body.into_bytes().await.map_err(io::Error::other)?;
        let decoding = tokio::task::spawn_blocking(move || {
            for coding in codings.into_iter().rev() {
                bytes = coding.decode(&bytes, limit)?;
            }
            io::Result::Ok(bytes)
        });
        decoding.await.map_err(io::Error::other)?
    }))
}

/// In the order in which they were applied.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, CodingError> {
    let mut codings = Vec::new();
    for line in headers.get_all(header::CONTENT_ENCODING) {
        let line = line.to_str().map_err(|_| CodingError::Unsupported)?;
        for name in line.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name.to_ascii_lowercase().as_str() {
                "identity" => {}
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" => codings.push(Coding::Deflate),
                _ => return Err(CodingError::Unsupported),
            }
        }
    }
    if codings.len() > MAX_CODINGS {
        return Err(CodingError::Unsupported);
    }
    Ok(codings)
}

fn failing(error: CodingError) -> Body {
    Body::from_bytes_stream(stream::once(async move { Err::<Bytes, _>(io::Error::other(error)) }))
}

impl Coding {
    /// At most `limit` bytes: a few bytes could become gigabytes.
    fn decode(self, bytes: &[u8], limit: u64) -> io::Result<Bytes> {
        match self {
            Self::Gzip => read(MultiGzDecoder::new(bytes), limit),
            // RFC 9110 §8.4.1.2: some clients send it without the zlib format.
            Self::Deflate if is_zlib(bytes) => read(ZlibDecoder::new(bytes), limit),
            Self::Deflate => read(DeflateDecoder::new(bytes), limit),
        }
    }
}

fn read(decoder: impl Read, limit: u64) -> io::Result<Bytes> {
    let mut decoded = Vec::new();
    decoder
        .take(limit.saturating_add(1))
        .read_to_end(&mut decoded)
        .map_err(|_| io::Error::other(CodingError::Broken))?;
    if decoded.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(decoded.into())
}

/// Whether bytes begin with a zlib header (RFC 1950 §2.2).
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use poem::{EndpointExt, Response, endpoint::make, test::TestClient};

    use super::*;
    use crate::{BodyLimit, Problems, RequestIds};

    const LIMIT: u64 = 100_000;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn send(coding: &str, body: Vec<u8>) -> Response {
        let echo = make(|request: Request| async move { Ok::<_, poem::Error>(request.into_body().into_vec().await?) });
        let endpoint = echo
            .with(BodyLimit { bytes: LIMIT })
            .with(Problems::default())
            .with(RequestIds::default());
        let client = TestClient::new(endpoint);
        let request = client.post("/").header(header::CONTENT_ENCODING, coding);
        request.body(body).send().await.0
    }

    async fn read_as(coding: &str, body: Vec<u8>) -> Vec<u8> {
        let response = send(coding, body).await;
        assert_eq!(response.status(), 200, "{coding}");
        response.into_body().into_vec().await.unwrap()
    }

    #[tokio::test]
    async fn a_body_is_read_without_its_codings() {
        let text = b"hello, hello, hello".repeat(100);
        for coding in ["gzip", "x-gzip", "GZIP", "identity, gzip", " gzip ,"] {
            assert_eq!(read_as(coding, gzip(&text)).await, text, "{coding}");
        }
        for body in [zlib(&text), raw(&text)] {
            assert_eq!(read_as("deflate", body).await, text);
        }
        assert_eq!(read_as("deflate, gzip", gzip(&zlib(&text))).await, text);
        assert_eq!(
            read_as("gzip", [gzip(b"one "), gzip(b"two")].concat()).await,
            b"one two"
        );
        assert_eq!(read_as("identity", text.clone()).await, text);
        assert_eq!(read_as("", text.clone()).await, text);
    }

    #[tokio::test]
    async fn another_coding_is_415_with_those_that_are_known() {
        for coding in [
            "br",
            "zstd",
            "compress",
            "gzip, br",
            "nonsense",
            "gzip, gzip, gzip, gzip",
        ] {
            let response = send(coding, b"x".to_vec()).await;
            assert_eq!(response.status(), 415, "{coding}");
            assert_eq!(response.header("accept-encoding"), Some("gzip, deflate"));
        }
    }

    #[tokio::test]
    async fn a_broken_body_is_400() {
        let whole = gzip(b"hello, hello, hello");
        let mut flipped = whole.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        let broken = [
            whole[..whole.len() - 1].to_vec(),
            whole[..12].to_vec(),
            b"plain".to_vec(),
            flipped,
            [whole, b"more".to_vec()].concat(),
        ];
        for body in broken {
            assert_eq!(send("gzip", body).await.status(), 400);
        }
        assert_eq!(send("deflate", b"\xff\xff\xff".to_vec()).await.status(), 400);
    }

    #[tokio::test]
    async fn a_body_that_grows_over_the_limit_is_413() {
        let limit = usize::try_from(LIMIT).unwrap();
        assert_eq!(read_as("gzip", gzip(&vec![0; limit])).await.len(), limit);
        assert_eq!(send("gzip", gzip(&vec![0; limit + 1])).await.status(), 413);
        let bomb = gzip(&vec![0; 20_000_000]);
        assert!(bomb.len() < limit);
        assert_eq!(send("gzip", bomb.clone()).await.status(), 413);
        assert_eq!(send("gzip, gzip", gzip(&bomb)).await.status(), 413);
    }
}
