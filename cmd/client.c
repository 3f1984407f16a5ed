#include "cmd/client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define CONNECT_TIMEOUT_S  10L
#define ANSWER_BYTES_MAX   (1u << 30)
#define UPLOAD_BUFFER_SIZE (256l << 10)

struct cairn_client {
    CURL *curl;
    struct curl_slist *headers;        /* of JSON calls */
    struct curl_slist *upload_headers; /* of NDJSON uploads */
    char *url;
    uint32_t timeout_s;
    char reason[CURL_ERROR_SIZE];
};

/* What the callbacks of one transfer need. */
struct transfer {
    CURL *curl;
    struct cairn_answer *answer;
    const struct cairn_upload *upload; /* NULL: a call */
    struct cairn_buf line;             /* the part of an answer line that has arrived */
};

void cairn_answer_release(struct cairn_answer *answer)
{
    cairn_buf_release(&answer->body);
    answer->status = 0;
}

void cairn_path_add(struct cairn_buf *path, struct cairn_str segment)
{
    static const char unreserved[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    cairn_buf_append(path, "/", 1);
    for (uint32_t i = 0; i < segment.len; i++) {
        char c = segment.ptr[i];
        if (c != '\0' && strchr(unreserved, c) != NULL)
            cairn_buf_append(path, &c, 1);
        else
            cairn_buf_printf(path, "%%%02X", (unsigned)(unsigned char)c);
    }
}

static int add_header(struct curl_slist **list, const char *text)
{
    struct curl_slist *longer = curl_slist_append(*list, text);
    if (longer == NULL)
        return CAIRN_ENOMEM;
    *list = longer;
    return 0;
}

static int add_headers(struct cairn_client *client, const char *api_key, struct cairn_error *err)
{
    int code = add_header(&client->headers, "Content-Type: application/json");
    /* No "Expect: 100-continue": the server takes the body at once. */
    if (code == 0)
        code = add_header(&client->headers, "Expect:");
    if (code == 0)
        code = add_header(&client->upload_headers, "Content-Type: application/x-ndjson");
    if (code == 0)
        code = add_header(&client->upload_headers, "Transfer-Encoding: chunked");
    if (code == 0)
        code = add_header(&client->upload_headers, "Expect:");
    if (code == 0 && api_key != NULL) {
        struct cairn_buf text = {0};
        cairn_buf_printf(&text, "Authorization: Bearer %s", api_key);
        cairn_buf_append(&text, "", 1);
        code = add_header(&client->headers, text.data);
        if (code == 0)
            code = add_header(&client->upload_headers, text.data);
        cairn_buf_release(&text);
    }
    return code == 0 ? 0 : cairn_fail(err, code, "no memory for request headers");
}

int cairn_client_open(const struct cairn_client_options *options, struct cairn_client **out,
                      struct cairn_error *err)
{
    int code;
    *out = NULL;
    if (strncmp(options->url, "http://", 7) != 0 && strncmp(options->url, "https://", 8) != 0)
        return cairn_fail(err, CAIRN_EPARAM, "--url '%s' does not begin with http:// or https://",
                          options->url);
    if (options->api_key != NULL && strpbrk(options->api_key, "\r\n") != NULL)
        return cairn_fail(err, CAIRN_EPARAM, "--api-key holds a line break");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return cairn_fail(err, CAIRN_ENOMEM, "libcurl does not start");
    struct cairn_client *client = cairn_calloc(1, sizeof(*client));
    client->url = cairn_strdup(cairn_str_from(options->url));
    for (size_t len = strlen(client->url); len > 0 && client->url[len - 1] == '/'; len--)
        client->url[len - 1] = '\0';
    client->timeout_s = options->timeout_s;
    client->curl = curl_easy_init();
    if (client->curl == NULL) {
        code = cairn_fail(err, CAIRN_ENOMEM, "libcurl does not start");
        goto fail;
    }
    code = add_headers(client, options->api_key, err);
    if (code != 0)
        goto fail;
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, client->reason);
    curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(client->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(client->curl, CURLOPT_USERAGENT, "cairn/" CAIRN_VERSION);
    curl_easy_setopt(client->curl, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_SIZE);
    if (options->ca_file != NULL)
        curl_easy_setopt(client->curl, CURLOPT_CAINFO, options->ca_file);
    *out = client;
    return 0;
fail:
    cairn_client_close(&client);
    return code;
}

void cairn_client_close(struct cairn_client **client)
{
    if (*client == NULL)
        return;
    curl_easy_cleanup((*client)->curl);
    curl_slist_free_all((*client)->headers);
    curl_slist_free_all((*client)->upload_headers);
    free((*client)->url);
    free(*client);
    *client = NULL;
    curl_global_cleanup();
}

/* Hand out the whole lines of what arrived and keep the rest. */
static void take_lines(struct transfer *transfer, const char *bytes, size_t len)
{
    while (len > 0) {
        const char *end = memchr(bytes, '\n', len);
        size_t part = end != NULL ? (size_t)(end - bytes) : len;
        cairn_buf_append(&transfer->line, bytes, part);
        if (end == NULL)
            return;
        struct cairn_str line = {transfer->line.data, (uint32_t)transfer->line.len};
        if (line.len > 0)
            transfer->upload->line(transfer->upload->context, line);
        cairn_buf_clear(&transfer->line);
        bytes += part + 1;
        len -= part + 1;
    }
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    long status = 0;
    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
    bool streams = transfer->upload != NULL && status == 200;
    struct cairn_buf *kept = streams ? &transfer->line : &transfer->answer->body;
    if (kept->len + size * count > ANSWER_BYTES_MAX)
        return 0;
    if (streams)
        take_lines(transfer, bytes, size * count);
    else
        cairn_buf_append(kept, bytes, size * count);
    return size * count;
}

static size_t on_read(char *bytes, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    ssize_t len = transfer->upload->read(transfer->upload->context, bytes, size * count);
    return len < 0 ? CURL_READFUNC_ABORT : (size_t)len;
}

/* The error code whose word a problem names; by status when the word is not known. */
static int code_of_word(struct cairn_str word)
{
    static const struct {
        int code;
        const char *word;
    } words[] = {
#define CAIRN_CLIENT_WORD(name, number, text, status) {name, text},
        CAIRN_ERROR_LIST(CAIRN_CLIENT_WORD)
#undef CAIRN_CLIENT_WORD
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (cairn_str_eq(word, cairn_str_from(words[i].word)))
            return words[i].code;
    }
    return CAIRN_EINTERNAL;
}

/* Turn an answer that is not a success into an error. */
static int fail_with_answer(const struct cairn_answer *answer, struct cairn_error *err)
{
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct cairn_str text = {answer->body.data, (uint32_t)answer->body.len};
    struct cairn_error ignored;
    struct cairn_str word, detail = {"", 0};
    struct cairn_json root, member;
    int code;
    if (cairn_json_parse(parser, text, &root, &ignored) == 0 &&
        cairn_json_get(root, "code", &member) && cairn_json_str(member, &word)) {
        if (cairn_json_get(root, "detail", &member))
            cairn_json_str(member, &detail);
        code = cairn_fail(err, code_of_word(word), "%.*s: %.*s", CAIRN_STR_ARG(word),
                          CAIRN_STR_ARG(detail));
    } else {
        code = cairn_fail(err, CAIRN_EINTERNAL, "the server answered HTTP %d: %.*s", answer->status,
                          (int)(text.len < 200 ? text.len : 200), text.len > 0 ? text.ptr : "");
    }
    cairn_json_parser_free(&parser);
    return code;
}

/* Run the transfer that is set up and judge how it went. */
static int perform(struct cairn_client *client, const char *path, struct transfer *transfer,
                   struct cairn_error *err)
{
    struct cairn_buf url = {0};
    long status = 0;
    cairn_buf_printf(&url, "%s%s", client->url, path);
    cairn_buf_append(&url, "", 1);
    cairn_buf_clear(&transfer->answer->body);
    client->reason[0] = '\0';
    curl_easy_setopt(client->curl, CURLOPT_URL, url.data);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, transfer);
    CURLcode outcome = curl_easy_perform(client->curl);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    transfer->answer->status = (int)status;
    cairn_buf_release(&url);

    /* A refusal may close the connection under an upload: the problem says more than the break. */
    if (status >= 300 && (outcome == CURLE_OK || transfer->answer->body.len > 0))
        return fail_with_answer(transfer->answer, err);
    if (outcome == CURLE_OPERATION_TIMEDOUT)
        return cairn_fail(err, CAIRN_ETIMEOUT, "%s: %s", client->url, client->reason);
    if (outcome != CURLE_OK)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "%s: %s", client->url,
                          client->reason[0] != '\0' ? client->reason : curl_easy_strerror(outcome));
    return 0;
}

int cairn_client_call(struct cairn_client *client, const char *method, const char *path,
                      struct cairn_str body, struct cairn_answer *answer, struct cairn_error *err)
{
    struct transfer transfer = {.curl = client->curl, .answer = answer};
    CURL *curl = client->curl;
    if (body.len > 0) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.ptr);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
    } else {
        curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, client->headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)client->timeout_s);
    return perform(client, path, &transfer, err);
}

int cairn_client_upload(struct cairn_client *client, const char *path,
                        const struct cairn_upload *upload, struct cairn_answer *answer,
                        struct cairn_error *err)
{
    struct transfer transfer = {.curl = client->curl, .answer = answer, .upload = upload};
    CURL *curl = client->curl;
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)-1);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "POST");
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(curl, CURLOPT_READDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, client->upload_headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 0L);
    int code = perform(client, path, &transfer, err);
    if (code == 0 && transfer.line.len > 0) {
        struct cairn_str line = {transfer.line.data, (uint32_t)transfer.line.len};
        upload->line(upload->context, line);
    }
    cairn_buf_release(&transfer.line);
    return code;
}
