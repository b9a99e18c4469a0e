#ifndef _NGX_HTTP_VIDGEN_HEALTH_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_HEALTH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* The content handler of vidgen_health: the providers' health as JSON. */
ngx_int_t ngx_http_vidgen_health_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_VIDGEN_HEALTH_H_INCLUDED_ */
