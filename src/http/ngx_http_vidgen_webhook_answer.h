#ifndef _NGX_HTTP_VIDGEN_WEBHOOK_ANSWER_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_WEBHOOK_ANSWER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_store.h"
#include "http/ngx_http_vidgen_response.h"
#include "shm/ngx_vidgen_seen.h"


/*
 * The answers of vidgen_webhook.  Each sets the log variables and returns what
 * ngx_http_finalize_request() takes.
 */

/* What the database has said of it. */
ngx_int_t ngx_http_vidgen_webhook_answer(ngx_http_request_t *r,
    ngx_vidgen_store_apply_row_t *row);

/* The zone knows it, with that answer. */
ngx_int_t ngx_http_vidgen_webhook_replay(ngx_http_request_t *r,
    ngx_vidgen_seen_value_t *value);

/*
 * An error, which is counted; detail, if not NULL and not empty, stands
 * instead of the error's sentence.
 */
ngx_int_t ngx_http_vidgen_webhook_refuse(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_str_t *detail);


#endif /* _NGX_HTTP_VIDGEN_WEBHOOK_ANSWER_H_INCLUDED_ */
