#ifndef _NGX_HTTP_VIDGEN_ATTEMPT_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_ATTEMPT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_operation.h"


/*
 * The ms that an attempt gets at least, a tenth of its bound: what is sent
 * with less would be paid for in vain.
 */
#define ngx_http_vidgen_attempt_least(op)  ((op)->lcf->attempt_timeout / 10)


/*
 * Sends the request of op->candidate through a subrequest to the vidgen_pass
 * location.  NGX_OK: ngx_http_vidgen_operation_attempted() will be called
 * once, not before this returned; the caller runs the posted requests.
 * NGX_DECLINED: a value cannot be sent; NGX_ERROR; nothing was sent.
 */
ngx_int_t ngx_http_vidgen_attempt_start(ngx_http_vidgen_operation_t *op);

/*
 * The client has left and its request is being destroyed: fills the response
 * of an attempt that was cut.  1: one was under way or had just ended.
 */
ngx_uint_t ngx_http_vidgen_attempt_cut(ngx_http_vidgen_operation_t *op);


#endif /* _NGX_HTTP_VIDGEN_ATTEMPT_H_INCLUDED_ */
