#ifndef _NGX_VIDGEN_URL_H_INCLUDED_
#define _NGX_VIDGEN_URL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* URLs that are put together from what an operator and a client wrote. */

#define NGX_VIDGEN_URL_MAX  2048

typedef struct {
    ngx_str_t      text;                 /* room for NGX_VIDGEN_URL_MAX */
} ngx_vidgen_url_t;


ngx_int_t ngx_vidgen_url_start(ngx_vidgen_url_t *url, ngx_pool_t *pool);

/*
 * Append a text as it is, or percent-escaped so that it stays in its path
 * segment or argument (slashes: it may go on to further segments).
 * NGX_OK; NGX_DECLINED: it is too long, or has a byte that no URL has.
 */
ngx_int_t ngx_vidgen_url_append(ngx_vidgen_url_t *url, ngx_str_t *text);
ngx_int_t ngx_vidgen_url_escape(ngx_vidgen_url_t *url, ngx_str_t *text,
    ngx_uint_t slashes);

/* 1: only printable ASCII without space, quotes, "\" and "#" */
ngx_uint_t ngx_vidgen_url_is_clean(ngx_str_t *text);

/*
 * The length of "http://host:port" at the start of text; 0: text does not
 * begin so, the host is empty, or there is a user before it.
 */
size_t ngx_vidgen_url_origin(ngx_str_t *text);

/* 1: both have the same scheme, host and port as written, in any case */
ngx_uint_t ngx_vidgen_url_same_origin(ngx_str_t *a, ngx_str_t *b);

/* the offset of the first "?", or the length */
size_t ngx_vidgen_url_path_end(ngx_str_t *text);

/*
 * NGX_DECLINED: the path from offset start on has a segment "." or "..", or
 * an empty one (the last one may be empty if slash is set).
 */
ngx_int_t ngx_vidgen_url_check_path(ngx_str_t *text, size_t start,
    ngx_uint_t slash);


#endif /* _NGX_VIDGEN_URL_H_INCLUDED_ */
