/* JSON in: simdjson's DOM behind C. A value is a place on the tape that a parse leaves behind
 * (simdjson's doc/tape.md): one 64-bit word for each token with its type in the top byte, a second
 * one for numbers. */
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <simdjson.h>
#pragma GCC diagnostic pop

extern "C" {
#include "base/json.h"
#include "base/json_number.h"
#include "base/limits.h"
}

using simdjson::internal::tape_ref;
using simdjson::internal::tape_type;
using Document = simdjson::dom::document;

struct cairn_json_parser {
    simdjson::dom::parser parser;
    char *text = nullptr; /* the copy that simdjson may read SIMDJSON_PADDING bytes beyond */
    size_t text_capacity = 0;
};

namespace
{

constexpr size_t TEXT_FIRST_BYTES = 4096;
/* simdjson's memory for each byte of text it has room for: tape (8), structural indexes (4),
 * strings (5/3). */
constexpr size_t PARSER_BYTES_PER_BYTE = 14;
/* Elements that a START_ARRAY word can count before it saturates. */
constexpr size_t SCOPE_COUNT_MAX = 0xFFFFFF;

tape_ref at(const void *document, size_t index)
{
    return tape_ref(static_cast<const Document *>(document), index);
}

tape_ref at(cairn_json value)
{
    return at(value.document, value.index);
}

cairn_str string_of(const tape_ref &ref)
{
    return cairn_str{ref.get_c_str(), ref.get_string_length()};
}

bool number_of(const tape_ref &ref, double *out)
{
    switch (ref.tape_ref_type()) {
    case tape_type::DOUBLE:
        *out = ref.next_tape_value<double>();
        return true;
    case tape_type::INT64:
        *out = static_cast<double>(ref.next_tape_value<int64_t>());
        return true;
    case tape_type::UINT64:
        *out = static_cast<double>(ref.next_tape_value<uint64_t>());
        return true;
    default:
        return false;
    }
}

bool open_scope(cairn_json value, tape_type type, cairn_json_iter *iter)
{
    tape_ref ref = at(value);
    if (ref.tape_ref_type() != type)
        return false;
    iter->document = value.document;
    iter->at = value.index + 1;
    iter->end = ref.after_element() - 1; /* the closing bracket */
    return true;
}

/* A fresh parser rather than a smaller capacity: simdjson only ever grows. */
int start_parser(cairn_json_parser *parser)
{
    parser->parser = simdjson::dom::parser();
    return parser->parser.allocate(TEXT_FIRST_BYTES, CAIRN_JSON_DEPTH_MAX) ? CAIRN_ENOMEM : 0;
}

void copy_text(cairn_json_parser *parser, cairn_str text)
{
    size_t need = size_t{text.len} + simdjson::SIMDJSON_PADDING;
    bool oversized = parser->text_capacity > CAIRN_JSON_KEEP_BYTES + simdjson::SIMDJSON_PADDING;
    if (need > parser->text_capacity || (oversized && text.len <= CAIRN_JSON_KEEP_BYTES)) {
        std::free(parser->text);
        parser->text_capacity = need < TEXT_FIRST_BYTES ? TEXT_FIRST_BYTES : need;
        parser->text = static_cast<char *>(cairn_malloc(parser->text_capacity));
    }
    if (text.len)
        std::memcpy(parser->text, text.ptr, text.len);
    std::memset(parser->text + text.len, 0, simdjson::SIMDJSON_PADDING);
}

int fail_parse(simdjson::error_code error, cairn_error *err)
{
    switch (error) {
    case simdjson::UTF8_ERROR:
        return cairn_fail(err, CAIRN_EUTF8, "the text is not UTF-8");
    case simdjson::MEMALLOC:
        return cairn_fail(err, CAIRN_ENOMEM, "no memory to parse the text");
    case simdjson::EMPTY:
        return cairn_fail(err, CAIRN_EJSON, "the text is empty");
    case simdjson::DEPTH_ERROR:
        return cairn_fail(err, CAIRN_EJSON, "nested deeper than %u levels", CAIRN_JSON_DEPTH_MAX);
    case simdjson::NUMBER_ERROR:
        return cairn_fail(err, CAIRN_EJSON, "a number is malformed or out of range");
    case simdjson::TAPE_ERROR:
        return cairn_fail(err, CAIRN_EJSON,
                          "not one whole document: cut short, a comma or bracket out of place, or "
                          "something after the end");
    default:
        return cairn_fail(err, CAIRN_EJSON, "%s", simdjson::error_message(error));
    }
}

void minify(cairn_json value, cairn_json_writer *writer)
{
    tape_ref ref = at(value);
    cairn_json_iter iter;
    cairn_json inner;
    cairn_str key;
    switch (ref.tape_ref_type()) {
    case tape_type::START_OBJECT:
        cairn_json_object(value, &iter);
        cairn_json_begin_object(writer);
        while (cairn_json_member(&iter, &key, &inner)) {
            cairn_json_write_key(writer, key);
            minify(inner, writer); /* no deeper than CAIRN_JSON_DEPTH_MAX */
        }
        cairn_json_end_object(writer);
        break;
    case tape_type::START_ARRAY:
        cairn_json_array(value, &iter, nullptr);
        cairn_json_begin_array(writer);
        while (cairn_json_element(&iter, &inner))
            minify(inner, writer);
        cairn_json_end_array(writer);
        break;
    case tape_type::STRING:
        cairn_json_write_str(writer, string_of(ref));
        break;
    case tape_type::INT64:
        cairn_json_write_i64(writer, ref.next_tape_value<int64_t>());
        break;
    case tape_type::UINT64:
        cairn_json_write_u64(writer, ref.next_tape_value<uint64_t>());
        break;
    case tape_type::DOUBLE:
        cairn_json_write_f64(writer, ref.next_tape_value<double>());
        break;
    case tape_type::NULL_VALUE:
        cairn_json_write_null(writer);
        break;
    default:
        cairn_json_write_bool(writer, ref.tape_ref_type() == tape_type::TRUE_VALUE);
        break;
    }
}

} // namespace

extern "C" {

struct cairn_json_parser *cairn_json_parser_new(void)
{
    auto *parser = new cairn_json_parser;
    start_parser(parser); /* a failure here comes back at the first parse */
    return parser;
}

void cairn_json_parser_free(struct cairn_json_parser **parser)
{
    if (*parser)
        std::free((*parser)->text);
    delete *parser;
    *parser = nullptr;
}

size_t cairn_json_parser_memory(const struct cairn_json_parser *parser)
{
    return parser->text_capacity + parser->parser.capacity() * PARSER_BYTES_PER_BYTE;
}

int cairn_json_parse(struct cairn_json_parser *parser, struct cairn_str text,
                     struct cairn_json *root, struct cairn_error *err)
{
    bool oversized = parser->parser.capacity() > CAIRN_JSON_KEEP_BYTES;
    if (parser->parser.capacity() == 0 || (oversized && text.len <= CAIRN_JSON_KEEP_BYTES)) {
        if (start_parser(parser) != 0)
            return fail_parse(simdjson::MEMALLOC, err);
    }
    copy_text(parser, text);
    auto error = parser->parser.parse(parser->text, text.len, false).error();
    if (error)
        return fail_parse(error, err);
    *root = cairn_json{&parser->parser.doc, 1};
    return 0;
}

enum cairn_json_kind cairn_json_kind(struct cairn_json value)
{
    switch (at(value).tape_ref_type()) {
    case tape_type::START_OBJECT:
        return CAIRN_JSON_OBJECT;
    case tape_type::START_ARRAY:
        return CAIRN_JSON_ARRAY;
    case tape_type::STRING:
        return CAIRN_JSON_STRING;
    case tape_type::INT64:
        return CAIRN_JSON_INT;
    case tape_type::UINT64:
        return CAIRN_JSON_UINT;
    case tape_type::DOUBLE:
        return CAIRN_JSON_DOUBLE;
    case tape_type::NULL_VALUE:
        return CAIRN_JSON_NULL;
    default:
        return CAIRN_JSON_BOOL;
    }
}

bool cairn_json_bool(struct cairn_json value, bool *out)
{
    if (cairn_json_kind(value) != CAIRN_JSON_BOOL)
        return false;
    *out = at(value).is_true();
    return true;
}

bool cairn_json_i64(struct cairn_json value, int64_t *out)
{
    tape_ref ref = at(value);
    if (ref.tape_ref_type() != tape_type::INT64)
        return false;
    *out = ref.next_tape_value<int64_t>();
    return true;
}

bool cairn_json_f64(struct cairn_json value, double *out)
{
    return number_of(at(value), out);
}

bool cairn_json_str(struct cairn_json value, struct cairn_str *out)
{
    tape_ref ref = at(value);
    if (ref.tape_ref_type() != tape_type::STRING)
        return false;
    *out = string_of(ref);
    return true;
}

bool cairn_json_object(struct cairn_json value, struct cairn_json_iter *iter)
{
    return open_scope(value, tape_type::START_OBJECT, iter);
}

bool cairn_json_member(struct cairn_json_iter *iter, struct cairn_str *key,
                       struct cairn_json *value)
{
    if (iter->at >= iter->end)
        return false;
    *key = string_of(at(iter->document, iter->at));
    *value = cairn_json{iter->document, iter->at + 1};
    iter->at = at(*value).after_element();
    return true;
}

bool cairn_json_array(struct cairn_json value, struct cairn_json_iter *iter, size_t *count)
{
    if (!open_scope(value, tape_type::START_ARRAY, iter))
        return false;
    if (!count)
        return true;
    *count = at(value).scope_count();
    if (*count < SCOPE_COUNT_MAX)
        return true;
    cairn_json_iter walk = *iter;
    cairn_json element;
    for (*count = 0; cairn_json_element(&walk, &element);)
        ++*count;
    return true;
}

bool cairn_json_element(struct cairn_json_iter *iter, struct cairn_json *value)
{
    if (iter->at >= iter->end)
        return false;
    *value = cairn_json{iter->document, iter->at};
    iter->at = at(*value).after_element();
    return true;
}

bool cairn_json_get(struct cairn_json value, const char *key, struct cairn_json *out)
{
    cairn_json_iter iter;
    if (!cairn_json_object(value, &iter))
        return false;
    cairn_str wanted = cairn_str_from(key), name;
    while (cairn_json_member(&iter, &name, out)) {
        if (cairn_str_eq(name, wanted))
            return true;
    }
    return false;
}

int64_t cairn_json_f32_array(struct cairn_json value, float *out, size_t max)
{
    cairn_json_iter iter;
    if (!cairn_json_array(value, &iter, nullptr))
        return -1;
    size_t count = 0;
    /* A number takes two words of the tape; anything else is refused before that matters. */
    for (; iter.at < iter.end; iter.at += 2, count++) {
        double number;
        if (!number_of(at(iter.document, iter.at), &number))
            return -1;
        auto component = static_cast<float>(number);
        if (!std::isfinite(component))
            return -1;
        if (count < max)
            out[count] = component;
    }
    return static_cast<int64_t>(count);
}

void cairn_json_minify(struct cairn_json value, struct cairn_buf *out)
{
    cairn_json_writer writer;
    cairn_json_writer_init(&writer, out);
    minify(value, &writer);
}

unsigned cairn_number_format_f64(double value, char *out)
{
    return static_cast<unsigned>(std::to_chars(out, out + CAIRN_NUMBER_TEXT_BYTES, value).ptr -
                                 out);
}

unsigned cairn_number_format_f32(float value, char *out)
{
    return static_cast<unsigned>(std::to_chars(out, out + CAIRN_NUMBER_TEXT_BYTES, value).ptr -
                                 out);
}

} // extern "C"
