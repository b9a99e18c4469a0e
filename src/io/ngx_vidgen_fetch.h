#ifndef _NGX_VIDGEN_FETCH_H_INCLUDED_
#define _NGX_VIDGEN_FETCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/*
 * HTTP requests on nginx's event loop: the only user of libcurl.  Nothing
 * here waits: names are resolved by libcurl's threads (or by c-ares), sockets
 * are watched by nginx, and the answer comes by the request's handler.
 */

#define NGX_VIDGEN_FETCH_MAX  128        /* requests at a time */

typedef struct ngx_vidgen_fetch_s          ngx_vidgen_fetch_t;
typedef struct ngx_vidgen_fetch_request_s  ngx_vidgen_fetch_request_t;

typedef enum {
    NGX_VIDGEN_FETCH_ANSWERED = 0,       /* there is an HTTP status */
    NGX_VIDGEN_FETCH_CONNECT,            /* no connection */
    NGX_VIDGEN_FETCH_DNS,
    NGX_VIDGEN_FETCH_TLS,
    NGX_VIDGEN_FETCH_RESET,              /* lost after it was made */
    NGX_VIDGEN_FETCH_TIMEOUT,
    NGX_VIDGEN_FETCH_INVALID,            /* no HTTP, or more than max bytes,
                                            or endless headers */
    NGX_VIDGEN_FETCH_FAILED              /* nobody's fault but ours: memory,
                                            the file of certificates */
} ngx_vidgen_fetch_outcome_e;

/* by ngx_vidgen_fetch_outcome_e: the words for a provider's health */
extern ngx_str_t  ngx_vidgen_fetch_outcomes[];

typedef struct {
    ngx_vidgen_fetch_outcome_e   outcome;
    const char                  *detail; /* libcurl's words, without the URL */
    ngx_uint_t                   status; /* HTTP; 0: none */
    ngx_str_t                    body;   /* in the request's pool */
    time_t                       retry_after;    /* seconds; -1: not said */
    time_t                       max_age;        /* seconds; -1: not said */
    ngx_msec_t                   dns_ms;         /* by libcurl's clock, each */
    ngx_msec_t                   connect_ms;     /* for itself; 0 where it */
    ngx_msec_t                   tls_ms;         /* did not come to that */
    ngx_msec_t                   total_ms;
} ngx_vidgen_fetch_answer_t;

/* may destroy the request's pool and start others */
typedef void (*ngx_vidgen_fetch_handler_pt)(
    ngx_vidgen_fetch_request_t *request);

struct ngx_vidgen_fetch_request_s {
    /* set by the caller, valid until the handler was called */
    ngx_str_t                    method;     /* GET, HEAD, OPTIONS, POST */
    ngx_str_t                    url;
    ngx_str_t                    body;       /* of a POST */
    ngx_msec_t                   timeout;    /* of the whole */
    size_t                       max;        /* bytes of the answer's body */
    ngx_vidgen_fetch_handler_pt  handler;
    void                        *data;
    unsigned                     head:1;     /* the body matters not: what is
                                                over max is not read */
    unsigned                     fresh:1;    /* on a connection of its own */

    /* what came of it */
    ngx_vidgen_fetch_answer_t    answer;

    /* the fetcher's own */
    ngx_vidgen_fetch_t          *fetch;
    ngx_pool_t                  *pool;
    void                        *easy;
    void                        *headers;
    size_t                       room;       /* of the body */
    size_t                       header;     /* bytes, trailers too */
    ngx_queue_t                  link;       /* of those under way */
};


/*
 * In a process that has an event loop, after the fork.  ca_file: certificates
 * to trust, NUL-terminated; empty: the system's.  NULL: logged.
 */
ngx_vidgen_fetch_t *ngx_vidgen_fetch_create(ngx_cycle_t *cycle,
    ngx_str_t *ca_file);

/* Drops all requests, whose handlers are not called. */
void ngx_vidgen_fetch_destroy(ngx_vidgen_fetch_t *fetch);

/*
 * A request in pool, all zeros; to destroy the pool cancels it.  NULL: no
 * memory.
 */
ngx_vidgen_fetch_request_t *ngx_vidgen_fetch_request(
    ngx_vidgen_fetch_t *fetch, ngx_pool_t *pool);

/* Adds a header; the texts are copied.  NGX_ERROR: no memory. */
ngx_int_t ngx_vidgen_fetch_header(ngx_vidgen_fetch_request_t *request,
    ngx_str_t *name, ngx_str_t *value);

/*
 * NGX_OK: the handler will be called once, not before this returned;
 * NGX_BUSY: there are NGX_VIDGEN_FETCH_MAX under way; NGX_ERROR: no memory,
 * or not a URL.
 */
ngx_int_t ngx_vidgen_fetch_start(ngx_vidgen_fetch_request_t *request);


#endif /* _NGX_VIDGEN_FETCH_H_INCLUDED_ */
