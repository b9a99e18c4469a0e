#ifndef _NGX_HTTP_VIDGEN_ATTEMPT_RESPONSE_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_ATTEMPT_RESPONSE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_operation.h"


/*
 * Fills op->attempt's response from its subrequest, which has ended with rc
 * or was cut: how the transport ended, whether a byte was sent, status, body.
 */
void ngx_http_vidgen_attempt_response(ngx_http_vidgen_operation_t *op,
    ngx_http_request_t *sr, ngx_int_t rc);


#endif /* _NGX_HTTP_VIDGEN_ATTEMPT_RESPONSE_H_INCLUDED_ */
