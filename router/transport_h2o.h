/* What the transport and the HTTP core need of libh2o beyond its headers. */
#ifndef CAIRN_ROUTER_TRANSPORT_H2O_H
#define CAIRN_ROUTER_TRANSPORT_H2O_H

#include <stddef.h>
#include <sys/types.h>

/* picohttpparser, which libh2o exports but ships no header of. */
struct phr_header {
    const char *name; /* NULL: the value continues the line before */
    size_t name_len;
    const char *value;
    size_t value_len;
};
struct phr_chunked_decoder {
    size_t bytes_left_in_chunk;
    char consume_trailer;
    char _hex_count;
    char _state;
};
int phr_parse_request(const char *buf, size_t len, const char **method, size_t *method_len,
                      const char **path, size_t *path_len, int *minor_version,
                      struct phr_header *headers, size_t *num_headers, size_t last_len);
int phr_parse_response(const char *buf, size_t len, int *minor_version, int *status,
                       const char **msg, size_t *msg_len, struct phr_header *headers,
                       size_t *num_headers, size_t last_len);
ssize_t phr_decode_chunked(struct phr_chunked_decoder *decoder, char *buf, size_t *bufsz);

/* h2o keeps freed chunks of a thread in thread-local lists and has no way to give them back. This
 * frees those of the calling thread: the last that it does with h2o. */
void cairn_h2o_release_recycled_chunks(void);

#endif
