#include "router/transport_answer.h"

#include <strings.h>

#include "base/limits.h"

#define HEADERS_MAX 100

void transport_answer_reset(struct transport_answer *answer, uint64_t bytes_max)
{
    struct cairn_buf head = answer->head;
    cairn_buf_release(&answer->body);
    cairn_buf_clear(&head);
    *answer = (struct transport_answer){.bytes_max = bytes_max, .head = head};
}

void transport_answer_release(struct transport_answer *answer)
{
    cairn_buf_release(&answer->head);
    cairn_buf_release(&answer->body);
}

static bool is_named(const struct phr_header *header, const char *name)
{
    return header->name && header->name_len == strlen(name) &&
           strncasecmp(header->name, name, header->name_len) == 0;
}

static struct cairn_str trimmed(const struct phr_header *header)
{
    struct cairn_str value = {header->value, (uint32_t)header->value_len};
    while (value.len > 0 && (value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t'))
        value.len--;
    return value;
}

static bool is_word(struct cairn_str value, const char *word)
{
    return value.len == strlen(word) && strncasecmp(value.ptr, word, value.len) == 0;
}

static bool parse_length(struct cairn_str value, uint64_t *out)
{
    if (value.len == 0 || value.len > 18)
        return false;
    *out = 0;
    for (uint32_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(value.ptr[i] - '0');
    }
    return true;
}

static int fail_too_large(const struct transport_answer *answer, struct cairn_error *err)
{
    return cairn_fail(err, CAIRN_ETOOLARGE, "the answer is larger than %llu bytes",
                      (unsigned long long)answer->bytes_max);
}

struct framing {
    bool has_length, chunked;
    uint64_t length;
};

static int read_headers(struct transport_answer *answer, const struct phr_header *headers,
                        size_t count, struct framing *out, struct cairn_error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct cairn_str value = trimmed(&headers[i]);
        uint64_t length;
        if (is_named(&headers[i], "content-length")) {
            if (!parse_length(value, &length) || (out->has_length && length != out->length))
                return cairn_fail(err, CAIRN_EUNAVAILABLE, "the answer's Content-Length is wrong");
            out->has_length = true;
            out->length = length;
        } else if (is_named(&headers[i], "transfer-encoding")) {
            if (out->chunked || !is_word(value, "chunked"))
                return cairn_fail(err, CAIRN_EUNAVAILABLE,
                                  "the answer's Transfer-Encoding is not chunked");
            out->chunked = true;
        } else if (is_named(&headers[i], "connection")) {
            answer->keep_alive = answer->keep_alive && is_word(value, "keep-alive");
        }
    }
    return 0;
}

/* Choose the body's framing. An answer that would end with its connection is refused: a peer that
 * dies in the middle of it would look the same. */
static int begin_body(struct transport_answer *answer, const struct framing *framing,
                      struct cairn_error *err)
{
    if (answer->status < 200) { /* another head follows */
        if (answer->status == 101)
            return cairn_fail(err, CAIRN_EUNAVAILABLE, "the answer changes the protocol");
        answer->phase = TRANSPORT_ANSWER_HEAD;
        return 0;
    }
    if (answer->status == 204 || answer->status == 304) {
        answer->phase = TRANSPORT_ANSWER_WHOLE;
        return 0;
    }
    if (framing->chunked == framing->has_length)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "the answer has %s a Content-Length and chunks",
                          framing->chunked ? "both" : "neither");
    if (framing->chunked) {
        answer->phase = TRANSPORT_ANSWER_CHUNKED;
        answer->decoder = (struct phr_chunked_decoder){.consume_trailer = 1};
        return 0;
    }
    if (framing->length > answer->bytes_max)
        return fail_too_large(answer, err);
    answer->remaining = framing->length;
    answer->phase = framing->length > 0 ? TRANSPORT_ANSWER_LENGTH : TRANSPORT_ANSWER_WHOLE;
    if (framing->length > 0)
        cairn_buf_reserve(&answer->body, framing->length);
    return 0;
}

/* Sets *taken to the bytes of the head; 0: it is incomplete. `seen` bytes were looked at before. */
static int parse_head(struct transport_answer *answer, const char *bytes, size_t len, size_t seen,
                      size_t *taken, struct cairn_error *err)
{
    struct phr_header headers[HEADERS_MAX];
    size_t headers_count = HEADERS_MAX, reason_len;
    const char *reason;
    int minor;
    *taken = 0;
    int parsed = phr_parse_response(bytes, len, &minor, &answer->status, &reason, &reason_len,
                                    headers, &headers_count, seen);
    if (parsed == -2 && len < CAIRN_HEADER_BYTES_MAX)
        return 0;
    if (parsed < 0 || (size_t)parsed > CAIRN_HEADER_BYTES_MAX || answer->status < 100)
        return cairn_fail(err, CAIRN_EUNAVAILABLE,
                          "the answer is not HTTP, or its head is larger than %u bytes",
                          CAIRN_HEADER_BYTES_MAX);
    struct framing framing = {0};
    answer->keep_alive = minor >= 1;
    *taken = (size_t)parsed;
    int code = read_headers(answer, headers, headers_count, &framing, err);
    return code != 0 ? code : begin_body(answer, &framing, err);
}

/* Sets *used to how many of the bytes belong to the head. */
static int feed_head(struct transport_answer *answer, const char *bytes, size_t len, size_t *used,
                     struct cairn_error *err)
{
    size_t taken;
    size_t before = answer->head.len;
    int code;
    if (before == 0) {
        code = parse_head(answer, bytes, len, 0, &taken, err);
    } else {
        size_t room = CAIRN_HEADER_BYTES_MAX - before;
        cairn_buf_append(&answer->head, bytes, len < room ? len : room);
        code = parse_head(answer, answer->head.data, answer->head.len, before, &taken, err);
    }
    if (code != 0)
        return code;
    if (taken > 0) {
        cairn_buf_clear(&answer->head);
        *used = taken - before;
        return 0;
    }
    if (before == 0)
        cairn_buf_append(&answer->head, bytes, len);
    *used = len;
    return 0;
}

static int feed_chunks(struct transport_answer *answer, char *bytes, size_t len, size_t *used,
                       struct cairn_error *err)
{
    size_t decoded = len;
    ssize_t rest = phr_decode_chunked(&answer->decoder, bytes, &decoded);
    if (rest == -1)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "the answer's chunks are malformed");
    if (decoded > answer->bytes_max - answer->body.len)
        return fail_too_large(answer, err);
    cairn_buf_append(&answer->body, bytes, decoded);
    *used = len;
    if (rest >= 0) {
        answer->phase = TRANSPORT_ANSWER_WHOLE;
        *used = len - (size_t)rest;
    }
    return 0;
}

void transport_answer_took(struct transport_answer *answer, size_t len)
{
    answer->body.len += len;
    answer->remaining -= len;
    if (answer->remaining == 0)
        answer->phase = TRANSPORT_ANSWER_WHOLE;
}

int transport_answer_feed(struct transport_answer *answer, char *bytes, size_t len,
                          struct cairn_error *err)
{
    answer->begun = answer->begun || len > 0;
    while (len > 0) {
        size_t used = 0;
        int code = 0;
        switch (answer->phase) {
        case TRANSPORT_ANSWER_HEAD:
            code = feed_head(answer, bytes, len, &used, err);
            break;
        case TRANSPORT_ANSWER_LENGTH:
            used = len < answer->remaining ? len : answer->remaining;
            memcpy(answer->body.data + answer->body.len, bytes, used);
            transport_answer_took(answer, used);
            break;
        case TRANSPORT_ANSWER_CHUNKED:
            code = feed_chunks(answer, bytes, len, &used, err);
            break;
        case TRANSPORT_ANSWER_WHOLE: /* nobody asked for more */
            answer->keep_alive = false;
            return 0;
        }
        if (code != 0)
            return code;
        bytes += used;
        len -= used;
    }
    return 0;
}
