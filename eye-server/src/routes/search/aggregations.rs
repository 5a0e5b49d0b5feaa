//! The shapes of aggregations, as Elasticsearch has them.

use crate::operation::{Component, Field, Shape};

const SCALAR: Shape = Shape::Any(&["string", "number", "boolean"]);

/// Aggregations that are asked for, by name.
pub(crate) static AGGREGATION_REQUESTS: Component = Component::new(
    "AggregationRequests",
    "By name. At most 100 in all, nested at most 5 deep.",
    Shape::ByName(&Shape::Of(&AGGREGATION_REQUEST)),
);

/// One of them.
pub(crate) static AGGREGATION_REQUEST: Component = Component::new(
    "AggregationRequest",
    "One kind, and what is wanted of each of its buckets.",
    Shape::SomeOf(
        &[
            Field::of("avg", &AGGREGATION_BODY).optional(),
            Field::of("cardinality", &AGGREGATION_BODY).optional(),
            Field::of("composite", &AGGREGATION_BODY).optional(),
            Field::of("date_histogram", &AGGREGATION_BODY).optional(),
            Field::of("extended_stats", &AGGREGATION_BODY).optional(),
            Field::of("histogram", &AGGREGATION_BODY).optional(),
            Field::of("max", &AGGREGATION_BODY).optional(),
            Field::of("min", &AGGREGATION_BODY).optional(),
            Field::of("multi_terms", &AGGREGATION_BODY).optional(),
            Field::of("percentiles", &AGGREGATION_BODY).optional(),
            Field::of("range", &AGGREGATION_BODY).optional(),
            Field::of("stats", &AGGREGATION_BODY).optional(),
            Field::of("sum", &AGGREGATION_BODY).optional(),
            Field::of("terms", &AGGREGATION_BODY).optional(),
            Field::of("value_count", &AGGREGATION_BODY).optional(),
            Field::of("aggs", &AGGREGATION_REQUESTS).optional(),
        ],
        1,
        2,
    ),
);

/// What is asked of a field.
pub(crate) static AGGREGATION_BODY: Component = Component::new(
    "AggregationBody",
    "As Elasticsearch has it for the kind: `field`, `size`, `order`, `fixed_interval`, `ranges` …",
    Shape::OpenObject(&[Field::text("field").optional()], &Shape::Anything),
);

/// What was aggregated, by name.
pub(crate) static AGGREGATIONS: Component = Component::new(
    "Aggregations",
    "By name, as Elasticsearch answers.",
    Shape::ByName(&Shape::Of(&AGGREGATION)),
);

/// One of them.
pub(crate) static AGGREGATION: Component = Component::object(
    "Aggregation",
    &[
        Field::number("value").optional().or_null(),
        Field::new(
            "values",
            Shape::Either(&[
                Shape::ByName(&Shape::Any(&["number", "null"])),
                Shape::List(&Shape::Object(&[
                    Field::number("key").optional().or_null(),
                    Field::number("value").optional().or_null(),
                ])),
            ]),
        )
        .optional(),
        Field::new(
            "buckets",
            Shape::Either(&[
                Shape::List(&Shape::Of(&AGGREGATION_BUCKET)),
                Shape::ByName(&Shape::Of(&AGGREGATION_BUCKET)),
            ]),
        )
        .optional(),
        Field::whole("sum_other_doc_count")
            .optional()
            .about("Events with values that are in no bucket."),
        Field::whole("doc_count_error_upper_bound")
            .optional()
            .or_null()
            .about("How far a count may be off; 0 where they are exact."),
        Field::new(
            "after_key",
            Shape::ByName(&Shape::Any(&["string", "number", "boolean", "null"])),
        )
        .optional(),
        Field::number("count").optional().or_null(),
        Field::number("sum").optional().or_null(),
        Field::number("min").optional().or_null(),
        Field::number("max").optional().or_null(),
        Field::number("avg").optional().or_null(),
        Field::number("sum_of_squares").optional().or_null(),
        Field::number("variance").optional().or_null(),
        Field::number("variance_population").optional().or_null(),
        Field::number("variance_sampling").optional().or_null(),
        Field::number("std_deviation").optional().or_null(),
        Field::number("std_deviation_population")
            .optional()
            .or_null(),
        Field::number("std_deviation_sampling").optional().or_null(),
        Field::new(
            "std_deviation_bounds",
            Shape::ByName(&Shape::Any(&["number", "null"])),
        )
        .optional()
        .or_null(),
    ],
);

/// The events that have one value, or lie within one range.
pub(crate) static AGGREGATION_BUCKET: Component = Component::new(
    "AggregationBucket",
    "",
    Shape::OpenObject(
        &[
            Field::new(
                "key",
                Shape::Either(&[
                    SCALAR,
                    Shape::List(&SCALAR),
                    Shape::ByName(&Shape::Any(&["string", "number", "boolean", "null"])),
                ]),
            ),
            Field::text("key_as_string").optional(),
            Field::whole("doc_count"),
            Field::number("from").optional(),
            Field::number("to").optional(),
            Field::text("from_as_string").optional(),
            Field::text("to_as_string").optional(),
        ],
        &Shape::Of(&AGGREGATION),
    ),
);
