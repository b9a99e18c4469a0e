#ifndef _NGX_HTTP_VIDGEN_EVENT_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_EVENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_provider.h"
#include "http/ngx_http_vidgen_response.h"
#include "shm/ngx_vidgen_seen.h"


/* A webhook before its effect: whose it is, whether it is genuine. */

typedef struct {
    ngx_vidgen_provider_t     *provider;
    ngx_str_t                  body;         /* the request's */
    ngx_str_t                  attempt;      /* of the URL; empty: none */
    u_char                     digest[NGX_VIDGEN_SHA256_LEN];
    ngx_vidgen_seen_claim_t    claim;        /* in the zone, by the digest */
} ngx_http_vidgen_event_t;


/*
 * Reads provider, attempt and body of a request whose body has been read.
 * NGX_OK; NGX_DECLINED with *error; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_vidgen_event_read(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, ngx_http_vidgen_error_e *error);

/* The provider that an OPTIONS or a POST means; NULL: unknown (or no memory) */
ngx_vidgen_provider_t *ngx_http_vidgen_event_provider(ngx_http_request_t *r);

/*
 * Verifies the signature over the raw body, or the capability in the URL,
 * and fills the digest.  NGX_OK; NGX_DECLINED with *error (the cause is
 * logged at info); NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_vidgen_event_verify(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, ngx_http_vidgen_error_e *error);

/*
 * Reads what a genuine webhook says, in pool.  NGX_OK; NGX_DECLINED with
 * *error, and perhaps with *detail; NGX_DONE: a challenge, to be answered with
 * itself; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_vidgen_event_parse(ngx_http_vidgen_event_t *event,
    ngx_pool_t *pool, ngx_vidgen_result_t *result,
    ngx_http_vidgen_error_e *error, ngx_str_t *detail);

/*
 * The log for lines about a webhook: to those of the connection's nginx adds
 * the request line, and the URL of a webhook has a token.
 */
ngx_log_t *ngx_http_vidgen_event_log(ngx_http_request_t *r);


#endif /* _NGX_HTTP_VIDGEN_EVENT_H_INCLUDED_ */
