//! What an operation documents of its requests.

use http::{HeaderMap, Uri, header};
use serde_json::Value;

use super::schema::Schema;
use crate::{Fault, input::is_json};

/// What an operation demands of its requests.
pub(crate) struct Rules {
    parameters: Vec<Parameter>,
    pub(super) body: Option<Schema>,
    /// The path as documented, in segments.
    path: Vec<String>,
}

struct Parameter {
    name: String,
    place: ParameterIn,
    is_required: bool,
    schema: Schema,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ParameterIn {
    Query,
    Path,
    Header,
    Cookie,
}

impl Rules {
    /// Those of one operation in a document; `None` if it takes nothing.
    pub(crate) fn of(document: &Value, path: &str, method: &str) -> Option<Self> {
        let operation = document["paths"].get(path)?.get(method)?;
        let components = &document["components"];
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<Parameter> = parameters
            .filter_map(|parameter| {
                let place = match parameter["in"].as_str()? {
                    "query" => ParameterIn::Query,
                    "path" => ParameterIn::Path,
                    "header" => ParameterIn::Header,
                    "cookie" => ParameterIn::Cookie,
                    _ => return None,
                };
                Some(Parameter {
                    name: parameter["name"].as_str()?.to_owned(),
                    place,
                    is_required: parameter["required"] == true,
                    schema: Schema::new(&parameter["schema"], components),
                })
            })
            .collect();
        let content = operation["requestBody"]["content"].as_object();
        let json = content.and_then(|content| content.iter().find(|(kind, _)| is_json(kind)));
        let body = json.map(|(_, media)| Schema::new(&media["schema"], components));
        (body.is_some() || !parameters.is_empty()).then(|| Self {
            parameters,
            body,
            path: path.split('/').map(str::to_owned).collect(),
        })
    }

    /// What is wrong with the parameters.
    pub(super) fn parameter_faults(&self, uri: &Uri, headers: &HeaderMap, faults: &mut Vec<Fault>) {
        for parameter in &self.parameters {
            let name = parameter.name.as_str();
            let values = match parameter.place {
                ParameterIn::Query => query_values(uri, name),
                ParameterIn::Path => self.path_value(uri, name),
                ParameterIn::Header => header_values(headers, name),
                ParameterIn::Cookie => cookie_values(headers, name),
            };
            if values.is_empty() {
                if parameter.is_required {
                    faults.push(Fault::parameter(name, "is missing"));
                }
                continue;
            }
            let schema = parameter.schema.resolved();
            let value = match schema["type"] == "array" {
                true => values.iter().map(|text| typed(text, &schema["items"])).collect(),
                false => typed(&values[0], schema),
            };
            // A parameter is one place, whatever is wrong within it.
            let wrong = parameter.schema.faults(&value).into_iter().next();
            faults.extend(wrong.map(|(_, detail)| Fault::parameter(name, detail)));
        }
    }

    fn path_value(&self, uri: &Uri, name: &str) -> Vec<String> {
        let segments = self.path.iter().zip(uri.path().split('/'));
        let found = segments.filter(|(documented, _)| {
            documented.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) == Some(name)
        });
        found
            .map(|(_, value)| {
                percent_encoding::percent_decode_str(value)
                    .decode_utf8_lossy()
                    .into_owned()
            })
            .collect()
    }

    pub(super) fn body_faults(&self, bytes: &[u8], faults: &mut Vec<Fault>) {
        let Some(schema) = &self.body else { return };
        match serde_json::from_slice::<Value>(bytes) {
            Err(error) => faults.push(Fault::pointer("", format!("is not JSON: {error}"))),
            Ok(value) => {
                let wrong = schema.faults(&value).into_iter();
                faults.extend(wrong.map(|(pointer, detail)| Fault::pointer(pointer, detail)));
            }
        }
    }
}

fn query_values(uri: &Uri, name: &str) -> Vec<String> {
    let pairs: Vec<(String, String)> = uri
        .query()
        .and_then(|query| serde_urlencoded::from_str(query).ok())
        .unwrap_or_default();
    let own = pairs.into_iter().filter(|(key, _)| key == name);
    own.map(|(_, value)| value).collect()
}

fn header_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok().map(str::to_owned))
        .collect()
}

fn cookie_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok());
    let pairs = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// Converts a parameter's text to the type of its schema; leaves it a text if it does not fit.
fn typed(text: &str, schema: &Value) -> Value {
    let read = match schema["type"].as_str() {
        Some("integer") => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<u64>().map(Value::from))
            .ok(),
        Some("number") => text.parse::<f64>().ok().map(Value::from),
        Some("boolean") => text.parse::<bool>().ok().map(Value::from),
        _ => None,
    };
    read.unwrap_or_else(|| text.into())
}
