#ifndef _NGX_VIDGEN_ROUTE_H_INCLUDED_
#define _NGX_VIDGEN_ROUTE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_provider.h"
#include "shm/ngx_vidgen_health.h"
#include "shm/ngx_vidgen_zone.h"


/* Failover: which providers may be asked, and what an answer means. */

/* what is known of whether the provider has the request */
typedef enum {
    NGX_VIDGEN_ATTEMPT_STATE_ACCEPTED = 0,
    NGX_VIDGEN_ATTEMPT_STATE_UNSENT,
    NGX_VIDGEN_ATTEMPT_STATE_REFUSED,
    NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN
} ngx_vidgen_attempt_state_e;

extern ngx_str_t  ngx_vidgen_attempt_state_names[];

/* vidgen_next_provider: what moves on to the next one; 1 is nginx's own bit */
#define NGX_VIDGEN_NEXT_OFF             0x80000000
#define NGX_VIDGEN_NEXT_ERROR           0x0002
#define NGX_VIDGEN_NEXT_TIMEOUT         0x0004
#define NGX_VIDGEN_NEXT_HTTP_5XX        0x0008
#define NGX_VIDGEN_NEXT_HTTP_429        0x0010
#define NGX_VIDGEN_NEXT_HTTP_401        0x0020
#define NGX_VIDGEN_NEXT_HTTP_402        0x0040
#define NGX_VIDGEN_NEXT_HTTP_403        0x0080
#define NGX_VIDGEN_NEXT_HTTP_404        0x0100
#define NGX_VIDGEN_NEXT_INVALID_ANSWER  0x0200
#define NGX_VIDGEN_NEXT_UNSENT          0x0400

/* how the transport ended, as far as nginx tells */
typedef enum {
    NGX_VIDGEN_TRANSPORT_ANSWERED = 0,   /* there is an HTTP status */
    NGX_VIDGEN_TRANSPORT_CONNECT,        /* no connection */
    NGX_VIDGEN_TRANSPORT_DNS,
    NGX_VIDGEN_TRANSPORT_TLS,
    NGX_VIDGEN_TRANSPORT_RESET,          /* lost after it was made */
    NGX_VIDGEN_TRANSPORT_TIMEOUT
} ngx_vidgen_transport_e;

typedef struct {
    ngx_vidgen_transport_e      transport;
    ngx_uint_t                  sent;    /* a byte left for the provider */
    ngx_uint_t                  http_status;     /* 0: none */
    ngx_uint_t                  unread;          /* the body could not be read,
                                                    for it was */
    ngx_uint_t                  too_large;
    ngx_str_t                   body;
} ngx_vidgen_response_t;

/* the provider's answer, understood */
typedef struct {
    ngx_vidgen_attempt_state_e  state;
    ngx_uint_t                  next;    /* what vidgen_next_provider has to
                                            list for moving on; 0: stop */
    ngx_uint_t                  content; /* the content was refused: 422 */
    ngx_str_t                   reason;  /* connect, http_503, ... */
    ngx_str_t                   message; /* the provider's; may be empty */
    ngx_vidgen_result_t         result;  /* of an accepted one */
    ngx_vidgen_json_t          *json;    /* of an accepted one */
} ngx_vidgen_verdict_t;


/* Judges one attempt by the table of failover.  NGX_ERROR: no memory. */
ngx_int_t ngx_vidgen_route_judge(ngx_vidgen_submit_t *submit,
    ngx_vidgen_response_t *response, ngx_pool_t *pool,
    ngx_vidgen_verdict_t *verdict);

/*
 * The available ones of providers (of ngx_vidgen_provider_t *) as the JSON
 * that begin takes, healthy ones first, last those that are down and due for
 * a trial, which is taken if there is no other.  NGX_ERROR: no memory.
 */
ngx_int_t ngx_vidgen_route_candidates(ngx_array_t *providers,
    ngx_vidgen_zone_t *zone, ngx_vidgen_health_rule_t *rule,
    ngx_pool_t *pool, ngx_str_t *json);

/*
 * Seconds, 1 to 60, until one of providers may be asked again, as far as is
 * known: the end of a cooldown, or of the next probe.  0: none is held back.
 */
ngx_uint_t ngx_vidgen_route_wait(ngx_array_t *providers,
    ngx_vidgen_zone_t *zone, ngx_vidgen_health_rule_t *rule);


#endif /* _NGX_VIDGEN_ROUTE_H_INCLUDED_ */
