/* RFC 9457 problem objects. */
#include <stdio.h>

#include "api/core.h"

static const struct {
    int status;
    const char *text;
} REASONS[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {304, "Not Modified"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {421, "Misdirected Request"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {507, "Insufficient Storage"},
};

const char *cairn_http_reason(int status)
{
    for (unsigned i = 0; i < sizeof(REASONS) / sizeof(REASONS[0]); i++)
        if (REASONS[i].status == status)
            return REASONS[i].text;
    return status < 400 ? "OK" : "Error";
}

/* A message may quote what the client sent: keep the answer valid UTF-8. */
static struct cairn_str safe_text(const struct cairn_error *err, char *copy)
{
    struct cairn_str text = cairn_str_from(err->message);
    if (cairn_utf8_valid(text))
        return text;
    for (uint32_t i = 0; i < text.len; i++)
        copy[i] = (unsigned char)text.ptr[i] < 0x80 ? text.ptr[i] : '?';
    return (struct cairn_str){copy, text.len};
}

void cairn_problem_write(struct cairn_json_writer *writer, const struct cairn_error *err)
{
    const char *word = cairn_code_word(err->code);
    int status = cairn_code_http_status(err->code);
    char type[96], copy[sizeof(err->message)];
    snprintf(type, sizeof(type), "urn:cairn:problem:%s", word);
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "type");
    cairn_json_write_str(writer, cairn_str_from(type));
    cairn_json_key(writer, "title");
    cairn_json_write_str(writer, cairn_str_from(cairn_http_reason(status)));
    cairn_json_key(writer, "status");
    cairn_json_write_i64(writer, status);
    cairn_json_key(writer, "detail");
    cairn_json_write_str(writer, safe_text(err, copy));
    cairn_json_key(writer, "code");
    cairn_json_write_str(writer, cairn_str_from(word));
    cairn_json_end_object(writer);
}
