#ifndef _NGX_HTTP_VIDGEN_BODY_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_BODY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * The request's body as one piece, whether it lies in one buffer, in several
 * or in a temporary file; borrowed or from the request's pool.  An empty body
 * is an empty text.  NGX_ERROR: no memory, or the file cannot be read.
 */
ngx_int_t ngx_http_vidgen_body(ngx_http_request_t *r, ngx_str_t *body);


#endif /* _NGX_HTTP_VIDGEN_BODY_H_INCLUDED_ */
