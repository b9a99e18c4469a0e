#ifndef _NGX_HTTP_VIDGEN_ATTEMPT_MESSAGE_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_ATTEMPT_MESSAGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_operation.h"


/* what the subrequest is given; all made before it, for it cannot be undone */
typedef struct {
    ngx_http_headers_in_t      headers_in;
    ngx_http_request_body_t   *body;
    ngx_http_variable_value_t *variables;
} ngx_http_vidgen_message_t;


/*
 * Fills the URL ($vidgen_url), headers and body for op->candidate while the
 * request has fresh variables, so that what depends on $vidgen_* (a map by
 * provider) is evaluated for this attempt.  NGX_OK; NGX_DECLINED: a value
 * cannot be sent; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_vidgen_attempt_message(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_message_t *message);


#endif /* _NGX_HTTP_VIDGEN_ATTEMPT_MESSAGE_H_INCLUDED_ */
