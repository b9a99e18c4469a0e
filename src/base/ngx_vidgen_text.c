#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"


#define NGX_VIDGEN_TEXT_RETRY_MAX  600      /* seconds */


static ngx_int_t ngx_vidgen_text_digit(u_char ch);
static ngx_int_t ngx_vidgen_text_canonical(ngx_str_t *dst, ngx_str_t *src);


ngx_uint_t
ngx_vidgen_text_same(const ngx_str_t *a, const ngx_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || ngx_memcmp(a->data, b->data, a->len) == 0);
}


ngx_uint_t
ngx_vidgen_text_same_name(const ngx_str_t *a, const ngx_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || ngx_strncasecmp(a->data, b->data, a->len) == 0);
}


ngx_int_t
ngx_vidgen_text_number(ngx_pool_t *pool, ngx_str_t *text, int64_t n)
{
    text->data = ngx_pnalloc(pool, NGX_INT64_LEN + 1);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    text->len = ngx_sprintf(text->data, "%L", n) - text->data;

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_text_unhex(ngx_str_t *dst, ngx_str_t *src)
{
    size_t     i;
    ngx_int_t  high, low;

    if (src->len % 2) {
        return NGX_DECLINED;
    }

    for (i = 0; i < src->len; i += 2) {
        high = ngx_vidgen_text_digit(src->data[i]);
        low = ngx_vidgen_text_digit(src->data[i + 1]);

        if (high < 0 || low < 0) {
            return NGX_DECLINED;
        }

        dst->data[i / 2] = (u_char) (high << 4 | low);
    }

    dst->len = src->len / 2;

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_text_digit(u_char ch)
{
    if (ch >= '0' && ch <= '9') {
        return ch - '0';
    }

    ch |= 0x20;

    if (ch >= 'a' && ch <= 'f') {
        return ch - 'a' + 10;
    }

    return -1;
}


ngx_int_t
ngx_vidgen_text_unbase64(ngx_str_t *dst, ngx_str_t *src)
{
    if (ngx_decode_base64(dst, src) != NGX_OK) {
        return NGX_DECLINED;
    }

    return ngx_vidgen_text_canonical(dst, src);
}


ngx_int_t
ngx_vidgen_text_unbase64url(ngx_str_t *dst, ngx_str_t *src)
{
    if (ngx_decode_base64url(dst, src) != NGX_OK) {
        return NGX_DECLINED;
    }

    return ngx_vidgen_text_canonical(dst, src);
}


/*
 * nginx's decoders stop at "=" and ignore what follows and the unused bits of
 * the last character: a signature could be altered without being refused.
 */

static ngx_int_t
ngx_vidgen_text_canonical(ngx_str_t *dst, ngx_str_t *src)
{
    u_char     last[4];
    size_t     bare, padding, rest;
    ngx_str_t  text, bytes;

    bare = 0;

    while (bare < src->len && src->data[bare] != '=') {
        bare++;
    }

    padding = src->len - bare;

    if (padding > 2 || (padding && src->len % 4)
        || (padding == 2 && src->data[bare + 1] != '='))
    {
        return NGX_DECLINED;
    }

    rest = bare % 4;

    if (rest == 0) {
        return padding ? NGX_DECLINED : NGX_OK;
    }

    /* rest is 2 or 3 here, the decoder refused 1 */

    bytes.len = rest - 1;
    bytes.data = dst->data + dst->len - bytes.len;
    text.data = last;

    /* the variants differ in two characters, which never end a text */

    ngx_encode_base64url(&text, &bytes);

    return text.data[rest - 1] == src->data[bare - 1]
           ? NGX_OK : NGX_DECLINED;
}


u_char *
ngx_vidgen_text_escape(u_char *dst, ngx_str_t *src, ngx_uint_t slashes)
{
    u_char         ch;
    size_t         i;
    static u_char  hex[] = "0123456789ABCDEF";

    for (i = 0; i < src->len; i++) {
        ch = src->data[i];

        if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
            || (ch >= '0' && ch <= '9') || ch == '-' || ch == '.'
            || ch == '_' || ch == '~' || (ch == '/' && slashes))
        {
            *dst++ = ch;
            continue;
        }

        *dst++ = '%';
        *dst++ = hex[ch >> 4];
        *dst++ = hex[ch & 0xf];
    }

    return dst;
}


ngx_uint_t
ngx_vidgen_text_has_control(ngx_str_t *text)
{
    size_t  i;

    for (i = 0; i < text->len; i++) {
        if (text->data[i] < 0x20 || text->data[i] == 0x7f) {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_vidgen_text_is_token(ngx_str_t *text)
{
    u_char  ch;
    size_t  i;

    for (i = 0; i < text->len; i++) {
        ch = text->data[i];

        if ((ch < '0' || ch > '9') && ((ch | 0x20) < 'a' || (ch | 0x20) > 'z')
            && (ch == '\0' || ngx_strchr("!#$%&'*+-.^_`|~", ch) == NULL))
        {
            return 0;
        }
    }

    return text->len != 0;
}


time_t
ngx_vidgen_text_retry_after(ngx_str_t *value)
{
    time_t  seconds, until;
    size_t  digits;

    for (digits = 0; digits < value->len; digits++) {
        if (value->data[digits] < '0' || value->data[digits] > '9') {
            break;
        }
    }

    if (digits && digits == value->len) {
        seconds = ngx_atotm(value->data, value->len);

        if (seconds == (time_t) NGX_ERROR) {
            /* more than the type holds */
            seconds = NGX_VIDGEN_TEXT_RETRY_MAX;
        }

    } else {
        until = ngx_parse_http_time(value->data, value->len);

        if (until == (time_t) NGX_ERROR) {
            return -1;
        }

        seconds = until - ngx_time();
    }

    seconds = ngx_max(seconds, 1);

    return ngx_min(seconds, NGX_VIDGEN_TEXT_RETRY_MAX);
}
