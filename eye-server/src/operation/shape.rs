//! The shapes of JSON: fields, what they may be, and names for what comes up again. Written as JSON Schema (2020-12).

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// A parameter, a header, or a field of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) about: &'static str,
    pub(crate) required: bool,
    pub(crate) nullable: bool,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Text,
    /// A text of so many characters at least and at most.
    TextOf(usize, usize),
    Uuid,
    /// An instant as RFC 3339 has it.
    Time,
    Whole,
    /// A whole number of at least so much.
    From(i64),
    /// A whole number from one to another.
    Between(i64, i64),
    Number,
    Boolean,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A value of any of these types of JSON.
    Any(&'static [&'static str]),
    List(&'static Shape),
    /// A list of so many at least and at most.
    ListOf(&'static Shape, usize, usize),
    /// An object with these fields and no others.
    Object(&'static [Field]),
    /// An object with these fields, and others of one shape.
    OpenObject(&'static [Field], &'static Shape),
    /// An object with so many of these fields at least and at most.
    SomeOf(&'static [Field], usize, usize),
    /// An object with whatever names, and values of one shape.
    ByName(&'static Shape),
    /// Any object of somebody else's.
    Json,
    Either(&'static [Shape]),
    Null,
    Anything,
    Of(&'static Component),
    /// An object with the fields of both lists.
    Both(&'static [Field], &'static [Field]),
    /// An object with these fields, and those that say as of when it is true.
    Framed(&'static [Field]),
    /// A page of rows: `{name: rows, "next", …}`.
    Page(&'static str, &'static Shape),
}

/// A shape with a name.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) shape: Shape,
}

impl Component {
    /// Returns an object with these fields and no others.
    pub(crate) const fn object(name: &'static str, fields: &'static [Field]) -> Self {
        Self::new(name, "", Shape::Object(fields))
    }

    /// Returns a shape with a name and what it is.
    pub(crate) const fn new(name: &'static str, about: &'static str, shape: Shape) -> Self {
        Self { name, about, shape }
    }
}

/// What every answer that was looked up ends with.
const FRAME: [Field; 3] = [
    Field::whole("as_of"),
    Field::whole("indexed_through"),
    Field::boolean("exact"),
];
const NEXT: Field = Field::text("next").or_null();

impl Field {
    /// Returns a field that is always there.
    pub(crate) const fn new(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            about: "",
            required: true,
            nullable: false,
        }
    }

    pub(crate) const fn text(name: &'static str) -> Self {
        Self::new(name, Shape::Text)
    }

    pub(crate) const fn uuid(name: &'static str) -> Self {
        Self::new(name, Shape::Uuid)
    }

    pub(crate) const fn time(name: &'static str) -> Self {
        Self::new(name, Shape::Time)
    }

    pub(crate) const fn whole(name: &'static str) -> Self {
        Self::new(name, Shape::Whole)
    }

    pub(crate) const fn number(name: &'static str) -> Self {
        Self::new(name, Shape::Number)
    }

    pub(crate) const fn boolean(name: &'static str) -> Self {
        Self::new(name, Shape::Boolean)
    }

    pub(crate) const fn one_of(name: &'static str, values: &'static [&'static str]) -> Self {
        Self::new(name, Shape::OneOf(values))
    }

    pub(crate) const fn list(name: &'static str, of: &'static Shape) -> Self {
        Self::new(name, Shape::List(of))
    }

    pub(crate) const fn of(name: &'static str, component: &'static Component) -> Self {
        Self::new(name, Shape::Of(component))
    }

    /// Says that it may be left out.
    pub(crate) const fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }

    /// Says that it may be null.
    pub(crate) const fn or_null(self) -> Self {
        Self {
            nullable: true,
            ..self
        }
    }

    /// Says what it is.
    pub(crate) const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }
}

impl Shape {
    /// Calls `see` with every named shape that this one refers to itself.
    pub(super) fn each_component(&self, see: &mut dyn FnMut(&'static Component)) {
        match self {
            Self::Of(component) => see(component),
            Self::List(of) | Self::ListOf(of, ..) | Self::ByName(of) | Self::Page(_, of) => {
                of.each_component(see);
            }
            Self::Object(fields) | Self::SomeOf(fields, ..) | Self::Framed(fields) => {
                fields
                    .iter()
                    .for_each(|field| field.shape.each_component(see));
            }
            Self::Both(fields, more) => {
                let fields = fields.iter().chain(*more);
                fields.for_each(|field| field.shape.each_component(see));
            }
            Self::OpenObject(fields, others) => {
                fields
                    .iter()
                    .for_each(|field| field.shape.each_component(see));
                others.each_component(see);
            }
            Self::Either(shapes) => shapes.iter().for_each(|shape| shape.each_component(see)),
            _ => {}
        }
    }
}

/// A shape with what is said beside it where it stands.
struct Described {
    shape: Shape,
    nullable: bool,
    about: &'static str,
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let described = Described {
            shape: *self,
            nullable: false,
            about: "",
        };
        described.serialize(serializer)
    }
}

impl Serialize for Component {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let described = Described {
            shape: self.shape,
            nullable: false,
            about: self.about,
        };
        described.serialize(serializer)
    }
}

impl Serialize for Described {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.write(&mut map)?;
        if !self.about.is_empty() {
            map.serialize_entry("description", self.about)?;
        }
        map.end()
    }
}

impl Described {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self.shape {
            Shape::Text => self.write_type(map, "string"),
            Shape::TextOf(least, most) => {
                self.write_type(map, "string")?;
                map.serialize_entry("minLength", &least)?;
                map.serialize_entry("maxLength", &most)
            }
            Shape::Uuid => {
                self.write_type(map, "string")?;
                map.serialize_entry("format", "uuid")
            }
            Shape::Time => {
                self.write_type(map, "string")?;
                map.serialize_entry("format", "date-time")
            }
            Shape::Whole => self.write_type(map, "integer"),
            Shape::From(least) => {
                self.write_type(map, "integer")?;
                map.serialize_entry("minimum", &least)
            }
            Shape::Between(least, most) => {
                self.write_type(map, "integer")?;
                map.serialize_entry("minimum", &least)?;
                map.serialize_entry("maximum", &most)
            }
            Shape::Number => self.write_type(map, "number"),
            Shape::Boolean => self.write_type(map, "boolean"),
            Shape::Null => self.write_type(map, "null"),
            Shape::Json => self.write_type(map, "object"),
            Shape::Anything => Ok(()),
            Shape::OneOf(values) => {
                let null = self.nullable.then_some(None);
                let values: Vec<Option<&str>> =
                    values.iter().copied().map(Some).chain(null).collect();
                map.serialize_entry("enum", &values)
            }
            Shape::Any(types) => {
                let null = self.nullable.then_some("null");
                let types: Vec<&str> = types.iter().copied().chain(null).collect();
                map.serialize_entry("type", &types)
            }
            Shape::List(of) => {
                self.write_type(map, "array")?;
                map.serialize_entry("items", of)
            }
            Shape::ListOf(of, least, most) => {
                self.write_type(map, "array")?;
                map.serialize_entry("items", of)?;
                if least > 0 {
                    map.serialize_entry("minItems", &least)?;
                }
                if most < usize::MAX {
                    map.serialize_entry("maxItems", &most)?;
                }
                Ok(())
            }
            Shape::Object(fields) => {
                self.write_type(map, "object")?;
                write_fields(map, &fields.iter().collect::<Vec<_>>())?;
                map.serialize_entry("additionalProperties", &false)
            }
            Shape::SomeOf(fields, least, most) => {
                self.write_type(map, "object")?;
                write_fields(map, &fields.iter().collect::<Vec<_>>())?;
                map.serialize_entry("minProperties", &least)?;
                map.serialize_entry("maxProperties", &most)?;
                map.serialize_entry("additionalProperties", &false)
            }
            Shape::Framed(fields) => {
                self.write_type(map, "object")?;
                write_fields(map, &fields.iter().chain(&FRAME).collect::<Vec<_>>())?;
                map.serialize_entry("additionalProperties", &false)
            }
            Shape::Both(fields, more) => {
                self.write_type(map, "object")?;
                write_fields(map, &fields.iter().chain(more).collect::<Vec<_>>())?;
                map.serialize_entry("additionalProperties", &false)
            }
            Shape::Page(name, row) => {
                self.write_type(map, "object")?;
                let rows = Field::list(name, row);
                let fields = [&rows, &NEXT].into_iter().chain(&FRAME);
                write_fields(map, &fields.collect::<Vec<_>>())?;
                map.serialize_entry("additionalProperties", &false)
            }
            Shape::OpenObject(fields, others) => {
                self.write_type(map, "object")?;
                write_fields(map, &fields.iter().collect::<Vec<_>>())?;
                map.serialize_entry("additionalProperties", others)
            }
            Shape::ByName(of) => {
                self.write_type(map, "object")?;
                map.serialize_entry("additionalProperties", of)
            }
            Shape::Either(shapes) => {
                let null = self.nullable.then_some(Shape::Null);
                let shapes: Vec<Shape> = shapes.iter().copied().chain(null).collect();
                map.serialize_entry("oneOf", &shapes)
            }
            Shape::Of(_) if self.nullable => {
                map.serialize_entry("oneOf", &[self.shape, Shape::Null])
            }
            Shape::Of(component) => {
                let place = format!("#/components/schemas/{}", component.name);
                map.serialize_entry("$ref", &place)
            }
        }
    }

    fn write_type<M: SerializeMap>(&self, map: &mut M, name: &str) -> Result<(), M::Error> {
        if self.nullable {
            map.serialize_entry("type", &[name, "null"])
        } else {
            map.serialize_entry("type", name)
        }
    }
}

fn write_fields<M: SerializeMap>(map: &mut M, fields: &[&Field]) -> Result<(), M::Error> {
    let required = fields.iter().filter(|field| field.required);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    if !required.is_empty() {
        map.serialize_entry("required", &required)?;
    }
    if !fields.is_empty() {
        map.serialize_entry("properties", &Properties(fields))?;
    }
    Ok(())
}

/// Fields by name, in their order.
struct Properties<'f>(&'f [&'f Field]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let field = |field: &&Field| {
            let described = Described {
                shape: field.shape,
                nullable: field.nullable,
                about: field.about,
            };
            (field.name, described)
        };
        serializer.collect_map(self.0.iter().map(field))
    }
}

/// An object whose fields may be null where they are not required.
pub(super) struct BodyFields(pub(super) Vec<Field>);

impl Serialize for BodyFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.0.iter().map(|field| Field {
            nullable: field.nullable || !field.required,
            ..*field
        });
        let fields: Vec<Field> = fields.collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "object")?;
        write_fields(&mut map, &fields.iter().collect::<Vec<_>>())?;
        map.serialize_entry("additionalProperties", &false)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    static THING: Component = Component::new("Thing", "Some thing.", Shape::Whole);

    fn written(shape: impl Serialize) -> Value {
        serde_json::to_value(shape).expect("shapes are texts and numbers")
    }

    #[test]
    fn what_may_be_null_says_so_whatever_it_is() {
        const FIELDS: [Field; 5] = [
            Field::text("text").or_null(),
            Field::one_of("one", &["a", "b"]).or_null().optional(),
            Field::of("thing", &THING).or_null().about("Or none."),
            Field::new("any", Shape::Any(&["string", "number"])).or_null(),
            Field::new("either", Shape::Either(&[Shape::Uuid, Shape::Boolean])).or_null(),
        ];
        let thing = json!({"$ref": "#/components/schemas/Thing"});
        let expected = json!({
            "type": "object", "required": ["text", "thing", "any", "either"], "additionalProperties": false, "properties": {
                "text": {"type": ["string", "null"]},
                "one": {"enum": ["a", "b", null]},
                "thing": {"oneOf": [thing, {"type": "null"}], "description": "Or none."},
                "any": {"type": ["string", "number", "null"]},
                "either": {"oneOf": [{"type": "string", "format": "uuid"}, {"type": "boolean"}, {"type": "null"}]},
            },
        });
        assert_eq!(written(Shape::Object(&FIELDS)), expected);
    }

    #[test]
    fn fields_of_a_body_may_be_null_where_they_are_not_required() {
        let fields = vec![Field::text("a"), Field::whole("b").optional()];
        let properties = &written(BodyFields(fields))["properties"];
        assert_eq!(properties["a"], json!({"type": "string"}));
        assert_eq!(properties["b"], json!({"type": ["integer", "null"]}));
    }

    #[test]
    fn a_page_has_its_rows_and_as_of_when_they_are_true() {
        static THINGS: Shape = Shape::Page("things", &Shape::Of(&THING));
        let page = written(THINGS);
        let names: Vec<&str> = ["things", "next", "as_of", "indexed_through", "exact"].into();
        assert_eq!(page["required"], json!(names));
        let rows = json!({"type": "array", "items": {"$ref": "#/components/schemas/Thing"}});
        assert_eq!(page["properties"]["things"], rows);
        assert_eq!(
            page["properties"]["next"],
            json!({"type": ["string", "null"]})
        );
        let mut found = Vec::new();
        THINGS.each_component(&mut |one| found.push(one.name));
        assert_eq!(found, ["Thing"]);
        assert_eq!(
            written(&THING),
            json!({"type": "integer", "description": "Some thing."})
        );
    }
}
