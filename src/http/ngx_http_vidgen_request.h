#ifndef _NGX_HTTP_VIDGEN_REQUEST_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_REQUEST_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* What was sent to us. */

/*
 * Of a handler that takes POST alone: goes on in handler, which finalizes the
 * request, once the body is read.  Returns for the content phase.
 */
ngx_int_t ngx_http_vidgen_request_post(ngx_http_request_t *r,
    ngx_http_client_body_handler_pt handler);

/*
 * Of a handler that takes GET and HEAD alone: discards a body.  NGX_DECLINED:
 * go on; anything else is for ngx_http_finalize_request().
 */
ngx_int_t ngx_http_vidgen_request_get(ngx_http_request_t *r);

/*
 * The request's body as one piece, whether it lies in one buffer, in several
 * or in a temporary file; borrowed or from the request's pool.  An empty body
 * is an empty text.  NGX_ERROR: no memory, or the file cannot be read.
 */
ngx_int_t ngx_http_vidgen_request_body(ngx_http_request_t *r,
    ngx_str_t *body);

/*
 * An argument of the URL, unescaped.  NGX_DECLINED: not there; NGX_ERROR: no
 * memory.
 */
ngx_int_t ngx_http_vidgen_request_argument(ngx_http_request_t *r, char *name,
    ngx_str_t *value);

/*
 * The n-th header of that name, from 0, of a request, an answer or an
 * upstream's answer; NULL: there are not so many.
 */
ngx_table_elt_t *ngx_http_vidgen_header(ngx_list_t *headers, ngx_str_t *name,
    ngx_uint_t n);


#endif /* _NGX_HTTP_VIDGEN_REQUEST_H_INCLUDED_ */
