#ifndef _NGX_VIDGEN_TEXT_H_INCLUDED_
#define _NGX_VIDGEN_TEXT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* 1: the same bytes; or the same name of a header, whatever its case */
ngx_uint_t ngx_vidgen_text_same(const ngx_str_t *a, const ngx_str_t *b);
ngx_uint_t ngx_vidgen_text_same_name(const ngx_str_t *a, const ngx_str_t *b);

/* Prints n into pool.  NGX_ERROR: no memory. */
ngx_int_t ngx_vidgen_text_number(ngx_pool_t *pool, ngx_str_t *text, int64_t n);

/* Strict codecs: each text that they accept is the only one for its bytes. */

/*
 * Decodes an even number of hex digits, either case, into dst, which has
 * room for src->len / 2 bytes.  NGX_OK with dst->len set, or NGX_DECLINED.
 */
ngx_int_t ngx_vidgen_text_unhex(ngx_str_t *dst, ngx_str_t *src);

/*
 * Decodes base64, or base64url, into dst, which has room for
 * ngx_base64_decoded_length(src->len) bytes.  Padding may be left out, unused
 * bits must be 0.  NGX_OK with dst->len set, or NGX_DECLINED.
 */
ngx_int_t ngx_vidgen_text_unbase64(ngx_str_t *dst, ngx_str_t *src);
ngx_int_t ngx_vidgen_text_unbase64url(ngx_str_t *dst, ngx_str_t *src);

/*
 * Percent-escapes all but the unreserved characters of RFC 3986, and "/" if
 * slashes is set.  dst has room for 3 * src->len bytes; returns the end.
 */
u_char *ngx_vidgen_text_escape(u_char *dst, ngx_str_t *src,
    ngx_uint_t slashes);

/*
 * Reads a Retry-After: seconds, or a date.  At least 1 s, and 10 minutes at
 * most, whatever it says; -1: it is neither.
 */
time_t ngx_vidgen_text_retry_after(ngx_str_t *value);

/* 1: there is a byte below 0x20 or a 0x7F */
ngx_uint_t ngx_vidgen_text_has_control(ngx_str_t *text);

/* 1: not empty and every byte may stand in the name of an HTTP header */
ngx_uint_t ngx_vidgen_text_is_token(ngx_str_t *text);


#endif /* _NGX_VIDGEN_TEXT_H_INCLUDED_ */
