/* h2o_hostinfo_getaddr has one thread for the whole process, so that one slow name would hold up
 * all others, and its answers must be awaited before the receiver may go. A look-up here is a
 * detached thread that may outlive the transport. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>

#include "router/transport_core.h"

struct transport_lookup {
    struct transport_message message; /* the transport's once posted */
    char *host, *port;
    const char *why; /* NULL: found */
    struct transport_addresses addresses;
    struct cairn_peer *peer; /* the transport's thread only; NULL: abandoned */
    atomic_uint owners;      /* the look-up's thread, the transport */

    pthread_mutex_t lock;              /* guards what follows; held while posting */
    struct cairn_transport *transport; /* NULL: abandoned */
    bool posted; /* the message will come, and give up the transport's share */
};

static void drop(struct transport_lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->owners, 1) > 1)
        return;
    pthread_mutex_destroy(&lookup->lock);
    free(lookup->host);
    free(lookup->port);
    free(lookup);
}

static void resolve(struct transport_lookup *lookup)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct transport_addresses *out = &lookup->addresses;
    int code = getaddrinfo(lookup->host, lookup->port, &hints, &found);
    for (struct addrinfo *at = code == 0 ? found : NULL; at; at = at->ai_next) {
        if (out->count == TRANSPORT_ADDRESSES_MAX || at->ai_addrlen > sizeof(out->at[0].to))
            continue;
        memcpy(&out->at[out->count].to, at->ai_addr, at->ai_addrlen);
        out->at[out->count++].len = at->ai_addrlen;
    }
    if (found)
        freeaddrinfo(found);
    if (out->count == 0)
        lookup->why = code != 0 ? gai_strerror(code) : "it has no address";
}

static void *run_lookup(void *arg)
{
    struct transport_lookup *lookup = arg;
    pthread_setname_np(pthread_self(), "cairn-resolve");
    resolve(lookup);
    pthread_mutex_lock(&lookup->lock);
    lookup->posted = lookup->transport;
    if (lookup->transport)
        transport_post(lookup->transport, &lookup->message);
    pthread_mutex_unlock(&lookup->lock);
    drop(lookup);
    return NULL;
}

static void on_resolved(struct transport_message *message)
{
    struct transport_lookup *lookup =
        H2O_STRUCT_FROM_MEMBER(struct transport_lookup, message, message);
    if (lookup->peer) {
        lookup->peer->lookup = NULL;
        transport_peer_resolved(lookup->peer, &lookup->addresses, lookup->why);
    }
    drop(lookup);
}

struct transport_lookup *transport_lookup_start(struct cairn_peer *peer)
{
    struct transport_lookup *lookup = cairn_calloc(1, sizeof(*lookup));
    pthread_attr_t attributes;
    pthread_t thread;
    lookup->message.run = on_resolved;
    lookup->host = cairn_strdup(cairn_str_from(peer->host));
    lookup->port = cairn_strdup(cairn_str_from(peer->port));
    lookup->peer = peer;
    lookup->transport = peer->transport;
    atomic_init(&lookup->owners, 2);
    pthread_mutex_init(&lookup->lock, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, run_lookup, lookup) != 0) {
        lookup->why = "no thread can be started for the look-up";
        lookup->posted = true;
        transport_post(peer->transport, &lookup->message);
        drop(lookup);
    }
    pthread_attr_destroy(&attributes);
    return lookup;
}

void transport_lookup_abandon(struct transport_lookup **lookup)
{
    struct transport_lookup *abandoned = *lookup;
    *lookup = NULL;
    if (!abandoned)
        return;
    abandoned->peer = NULL;
    pthread_mutex_lock(&abandoned->lock);
    abandoned->transport = NULL;
    bool posted = abandoned->posted;
    pthread_mutex_unlock(&abandoned->lock);
    if (!posted)
        drop(abandoned);
}

bool transport_parse_address(const char *host, uint16_t port, struct transport_addresses *out)
{
    struct in_addr v4;
    struct in6_addr v6;
    *out = (struct transport_addresses){.count = 1};
    if (inet_pton(AF_INET, host, &v4) == 1) {
        out->at[0].to.v4 =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = v4};
        out->at[0].len = sizeof(struct sockaddr_in);
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1) {
        out->at[0].to.v6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = v6};
        out->at[0].len = sizeof(struct sockaddr_in6);
        return true;
    }
    return false;
}
