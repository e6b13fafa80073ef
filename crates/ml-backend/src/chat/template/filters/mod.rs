//! Jinja2's filters, `value | name(...)`, all of its list but `urlize`.

mod attributes;
mod choose;
mod html;
mod items;
mod numbers;
mod order;
mod pretty;
mod text;
mod wrap;

use super::failure::Outcome;
use super::json;
use super::run::Run;
use super::run::arguments::Args;
use super::value::Value;

pub(super) use html::escaped;
pub(super) use order::sorted_by_first;

pub(super) type Filter = fn(&mut Run<'_>, Value, Args) -> Outcome<Value>;

/// A filter by its name.
pub(super) fn find(name: &str) -> Option<Filter> {
    Some(match name {
        "abs" => numbers::abs,
        "attr" => attributes::attr,
        "batch" => items::batch,
        "capitalize" => |_, value, args| text::method(&value, "capitalize", args),
        "center" => text::center,
        "count" | "length" => items::length,
        "d" | "default" => items::default,
        "dictsort" => order::dictsort,
        "e" | "escape" => html::escape,
        "filesizeformat" => numbers::file_size,
        "first" => items::first,
        "float" => numbers::float,
        "forceescape" => html::force_escape,
        "format" => text::format,
        "groupby" => order::group_by,
        "indent" => text::indent,
        "int" => numbers::int,
        "items" => items::items,
        "join" => text::join,
        "last" => items::last,
        "list" => items::list,
        "lower" => |_, value, args| text::method(&value, "lower", args),
        "map" => choose::map,
        "max" => order::max,
        "min" => order::min,
        "pprint" => pretty::pprint,
        "random" => items::random,
        "reject" => choose::reject,
        "rejectattr" => choose::reject_attribute,
        "replace" => text::replace,
        "reverse" => items::reverse,
        "round" => numbers::round,
        "safe" => html::safe,
        "select" => choose::select,
        "selectattr" => choose::select_attribute,
        "slice" => items::slice,
        "sort" => order::sort,
        "string" => text::string_filter,
        "striptags" => html::strip_tags,
        "sum" => numbers::sum,
        "title" => text::title,
        "tojson" => json::tojson,
        "trim" => text::trim,
        "truncate" => text::truncate,
        "unique" => items::unique,
        "upper" => |_, value, args| text::method(&value, "upper", args),
        "urlencode" => html::url_encode,
        "wordcount" => text::word_count,
        "wordwrap" => wrap::word_wrap,
        "xmlattr" => html::xml_attributes,
        _ => return None,
    })
}
