#ifndef _NGX_HTTP_VIDGEN_CONTEXT_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_CONTEXT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_template.h"


/* What the module knows of a request: for logs, variables and subrequests. */

typedef struct {
    ngx_vidgen_source_t       *source;       /* NULL: no $vidgen_* of a job */
    ngx_str_t                  provider;     /* each empty until known; lives
                                                as long as the request */
    ngx_str_t                  job_id;
    ngx_str_t                  job_status;
    ngx_str_t                  outcome;
    ngx_uint_t                 attempts;
    ngx_msec_t                 db_started;
    ngx_msec_t                 db_time;      /* ms waited for the database */
    void                      *operation;    /* of a generation under way */
    void                      *verify;       /* of a webhook to be passed on */
    unsigned                   db_used:1;
    unsigned                   checked:1;    /* verified is known */
    unsigned                   verified:1;
    unsigned                   replay:1;
    unsigned                   consulted:1;  /* a $vidgen_* was evaluated */
} ngx_http_vidgen_ctx_t;


/*
 * The context of the main request, made if create is 1; found again after an
 * internal redirect.  NULL: none, or no memory.
 */
ngx_http_vidgen_ctx_t *ngx_http_vidgen_ctx(ngx_http_request_t *r,
    ngx_uint_t create);

/* Keeps a copy of text in *kept for as long as the request. */
void ngx_http_vidgen_ctx_keep(ngx_http_request_t *r, ngx_str_t *kept,
    ngx_str_t *text);

/* The variable callback of a template source whose data is a request. */
ngx_int_t ngx_http_vidgen_ctx_variable(void *data, ngx_uint_t index,
    ngx_str_t *value);


#endif /* _NGX_HTTP_VIDGEN_CONTEXT_H_INCLUDED_ */
