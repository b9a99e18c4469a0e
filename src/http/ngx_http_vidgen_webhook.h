#ifndef _NGX_HTTP_VIDGEN_WEBHOOK_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_WEBHOOK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* vidgen_webhook: POST, a provider's signed result */
ngx_int_t ngx_http_vidgen_webhook_handler(ngx_http_request_t *r);

/*
 * OPTIONS, as the provider's definition answers it; NGX_DECLINED: it does
 * not.  Else as ngx_http_finalize_request() takes it.
 */
ngx_int_t ngx_http_vidgen_webhook_options(ngx_http_request_t *r);


#endif /* _NGX_HTTP_VIDGEN_WEBHOOK_H_INCLUDED_ */
