#ifndef _NGX_HTTP_VIDGEN_GENERATE_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_GENERATE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* vidgen_generate: POST, submits a generation */
ngx_int_t ngx_http_vidgen_generate_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_VIDGEN_GENERATE_H_INCLUDED_ */
