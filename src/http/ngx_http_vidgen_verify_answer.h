#ifndef _NGX_HTTP_VIDGEN_VERIFY_ANSWER_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_VERIFY_ANSWER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_context.h"
#include "http/ngx_http_vidgen_verify_claim.h"


/* a request of a vidgen_verify location */
typedef struct {
    ngx_http_vidgen_event_t          event;
    ngx_http_vidgen_verify_claim_t   claim;
    ngx_vidgen_source_t              source;     /* for $vidgen_* */
    ngx_http_vidgen_error_e          error;      /* if refused */
    unsigned                         go_on:1;    /* decided, phases go on */
    unsigned                         passed:1;   /* genuine, passed on */
    unsigned                         refused:1;
} ngx_http_vidgen_verify_t;


/*
 * What the edge answers instead of the application.  Each returns what
 * ngx_http_finalize_request() takes; the first two NGX_DECLINED where
 * vidgen_dry_run only counts and logs it and the webhook is passed on.
 */

/* The application has answered this event before. */
ngx_int_t ngx_http_vidgen_verify_replay(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx);

/* Refuses with an error and counts it. */
ngx_int_t ngx_http_vidgen_verify_refuse(ngx_http_request_t *r,
    ngx_http_vidgen_verify_t *verify, ngx_http_vidgen_error_e error);

/* Sends the error of a refusal, also once more in place of its page. */
ngx_int_t ngx_http_vidgen_verify_error(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error);


#endif /* _NGX_HTTP_VIDGEN_VERIFY_ANSWER_H_INCLUDED_ */
