//! The OpenAPI document of a list of operations, in version 3.1.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::Serializer;
use serde_json::{Value, json};

use super::shape::{BodyFields, Component, Field, Shape};
use super::{Content, Forms, Kind, Operation};
use crate::error::PROBLEM;

const PROBLEM_RESPONSE: &str = "#/components/responses/Problem";
const JSON: &str = "application/json";

/// Writes the document: of every path its methods, in lower case, with their operations.
pub(crate) fn document<'o>(
    routes: impl Iterator<Item = (&'static str, Vec<(&'static str, &'o Operation)>)>,
) -> String {
    let paths: Vec<(&str, Methods<'o>)> = routes
        .map(|(path, methods)| (path, Methods(methods)))
        .collect();
    let mut components = BTreeMap::new();
    gather(&PROBLEM, &mut components);
    let operations = paths.iter().flat_map(|(_, methods)| &methods.0);
    for (_, operation) in operations {
        operation.each_shape(&mut |shape| {
            shape.each_component(&mut |component| gather(component, &mut components));
        });
    }
    let document = Document {
        openapi: "3.1.0",
        info: json!({
            "title": "The Eye", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "MIT", "identifier": "MIT"},
        }),
        security: json!([{"token": []}, {"bearer": []}, {"basic": []}]),
        paths: Pairs(paths),
        components: Components {
            security_schemes: json!({
                "token": {
                    "type": "apiKey", "in": "header", "name": "Authorization", "description": "Authorization: Token T",
                },
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The token as the user name."},
            }),
            schemas: components,
            responses: Pairs(vec![(
                "Problem",
                Response {
                    description: "What is wrong, with a code, and how to mend it.",
                    content: Some(Pairs(vec![(
                        "application/problem+json",
                        Schema::of(Shape::Of(&PROBLEM)),
                    )])),
                },
            )]),
        },
    };
    serde_json::to_string(&document).expect("texts and numbers always encode")
}

/// Takes in a named shape and all that it refers to.
fn gather(component: &'static Component, known: &mut BTreeMap<&'static str, &'static Component>) {
    if known.insert(component.name, component).is_none() {
        let inner = &mut |component| gather(component, known);
        component.shape.each_component(inner);
    }
}

#[derive(Serialize)]
struct Document<'o> {
    openapi: &'static str,
    info: Value,
    security: Value,
    paths: Pairs<Methods<'o>>,
    components: Components,
}

#[derive(Serialize)]
struct Components {
    #[serde(rename = "securitySchemes")]
    security_schemes: Value,
    schemas: BTreeMap<&'static str, &'static Component>,
    responses: Pairs<Response>,
}

/// What one operation is in the document.
#[derive(Serialize)]
struct Described {
    summary: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    security: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<Parameter>,
    #[serde(rename = "requestBody", skip_serializing_if = "Option::is_none")]
    body: Option<RequestBody>,
    responses: BTreeMap<u16, Told>,
}

#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    r#in: &'static str,
    required: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    schema: Shape,
}

#[derive(Serialize)]
struct RequestBody {
    required: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    content: Pairs<Schema>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Here(Response),
    Elsewhere {
        #[serde(rename = "$ref")]
        place: &'static str,
    },
}

#[derive(Serialize)]
struct Response {
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Pairs<Schema>>,
}

#[derive(Serialize)]
struct Schema {
    schema: AnyShape,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyShape {
    Shape(Shape),
    /// The fields of a body: what is not required may be null, too.
    Body(BodyFields),
}

impl Schema {
    fn of(shape: Shape) -> Self {
        let schema = AnyShape::Shape(shape);
        Self { schema }
    }
}

/// Values by name, in their order.
struct Pairs<T>(Vec<(&'static str, T)>);

impl<T: Serialize> Serialize for Pairs<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

struct Methods<'o>(Vec<(&'static str, &'o Operation)>);

impl Serialize for Methods<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let described = self
            .0
            .iter()
            .map(|(name, operation)| (name, operation.described()));
        serializer.collect_map(described)
    }
}

impl Operation {
    fn described(&self) -> Described {
        let [shared, own] = self.in_query();
        let parameters = [
            ("path", self.path),
            ("query", shared),
            ("query", own),
            ("header", self.headers),
        ];
        let parameters = parameters.into_iter().flat_map(|(place, fields)| {
            fields.iter().map(move |field| Parameter {
                name: field.name,
                r#in: place,
                required: field.required,
                description: field.about,
                schema: field.shape,
            })
        });
        Described {
            summary: self.summary,
            security: matches!(self.kind, Kind::Open | Kind::Health).then_some([]),
            parameters: parameters.collect(),
            body: self
                .body
                .as_ref()
                .map(|body| body.described(&self.in_body())),
            responses: self.responses(),
        }
    }

    /// Returns the statuses that may come, each with what it is.
    fn responses(&self) -> BTreeMap<u16, Told> {
        let of_kind: &[u16] = match self.kind {
            Kind::Open => &[503],
            Kind::Health => &[],
            Kind::Reads => &[400, 401, 403, 500, 503, 504],
            Kind::Writes => &[400, 401, 403, 500, 503, 507],
            Kind::Acts => &[400, 401, 403, 500, 503],
        };
        let of_body: &[u16] = if self.body.is_some() {
            &[408, 413]
        } else {
            &[]
        };
        let of_path: &[u16] = if self.path.is_empty() { &[] } else { &[404] };
        let problems = [of_kind, of_body, of_path, self.problems].concat();
        let problem = |status| {
            (
                status,
                Told::Elsewhere {
                    place: PROBLEM_RESPONSE,
                },
            )
        };
        let answers = self.answers.iter().map(|answer| {
            let response = Response {
                description: answer.about,
                content: answer.forms.described(),
            };
            (answer.status, Told::Here(response))
        });
        problems.into_iter().map(problem).chain(answers).collect()
    }

    fn each_shape(&self, see: &mut dyn FnMut(&Shape)) {
        let mut forms: Vec<&Shape> = Vec::new();
        let mut fields = [self.path, self.shared, self.query, self.headers].concat();
        match &self.body {
            Some(Content::Fields(own)) => fields.extend_from_slice(own),
            Some(Content::Of { forms: own, .. }) => {
                forms.extend(own.iter().map(|(_, shape)| shape))
            }
            None => {}
        }
        for answer in self.answers {
            match &answer.forms {
                Forms::None => {}
                Forms::Json(shape) => forms.push(shape),
                Forms::Of(own) => forms.extend(own.iter().map(|(_, shape)| shape)),
            }
        }
        fields
            .iter()
            .map(|field| &field.shape)
            .chain(forms)
            .for_each(see);
    }
}

impl Content {
    fn described(&self, fields: &[&[Field]]) -> RequestBody {
        match self {
            Self::Fields(_) => RequestBody {
                required: fields.iter().copied().flatten().any(|field| field.required),
                description: "",
                content: Pairs(vec![(
                    JSON,
                    Schema {
                        schema: AnyShape::Body(BodyFields(fields.concat())),
                    },
                )]),
            },
            Self::Of {
                required,
                about,
                forms,
            } => RequestBody {
                required: *required,
                description: about,
                content: contents(forms),
            },
        }
    }
}

impl Forms {
    fn described(&self) -> Option<Pairs<Schema>> {
        match self {
            Self::None => None,
            Self::Json(shape) => Some(Pairs(vec![(JSON, Schema::of(*shape))])),
            Self::Of(forms) => Some(contents(forms)),
        }
    }
}

fn contents(forms: &[(&'static str, Shape)]) -> Pairs<Schema> {
    let forms = forms
        .iter()
        .map(|(media_type, shape)| (*media_type, Schema::of(*shape)));
    Pairs(forms.collect())
}
