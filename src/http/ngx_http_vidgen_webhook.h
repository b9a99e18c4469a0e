#ifndef _NGX_HTTP_VIDGEN_WEBHOOK_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_WEBHOOK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_response.h"


/* vidgen_webhook: POST, a provider's signed result */
ngx_int_t ngx_http_vidgen_webhook_handler(ngx_http_request_t *r);

/*
 * OPTIONS, as the provider's definition answers it; NGX_DECLINED: it does
 * not.  Else as ngx_http_finalize_request() takes it.
 */
ngx_int_t ngx_http_vidgen_webhook_options(ngx_http_request_t *r);

/*
 * Answers with an error and counts it; detail, if not NULL and not empty,
 * stands instead of the error's sentence.
 */
ngx_int_t ngx_http_vidgen_webhook_refuse(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_str_t *detail);


#endif /* _NGX_HTTP_VIDGEN_WEBHOOK_H_INCLUDED_ */
