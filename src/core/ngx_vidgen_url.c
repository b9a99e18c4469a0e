#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_url.h"
#include "base/ngx_vidgen_text.h"


ngx_int_t
ngx_vidgen_url_start(ngx_vidgen_url_t *url, ngx_pool_t *pool)
{
    url->text.len = 0;
    url->text.data = ngx_pnalloc(pool, NGX_VIDGEN_URL_MAX + 1);

    return url->text.data ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_vidgen_url_append(ngx_vidgen_url_t *url, ngx_str_t *text)
{
    if (text->len > NGX_VIDGEN_URL_MAX - url->text.len
        || !ngx_vidgen_url_is_clean(text))
    {
        return NGX_DECLINED;
    }

    ngx_memcpy(url->text.data + url->text.len, text->data, text->len);
    url->text.len += text->len;

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_url_escape(ngx_vidgen_url_t *url, ngx_str_t *text,
    ngx_uint_t slashes)
{
    u_char     *last, byte[3];
    size_t      len;
    ngx_str_t   one;

    if (ngx_vidgen_text_has_control(text)) {
        return NGX_DECLINED;
    }

    one.len = 1;

    for (one.data = text->data; one.data < text->data + text->len;
         one.data++)
    {
        last = ngx_vidgen_text_escape(byte, &one, slashes);
        len = last - byte;

        if (len > NGX_VIDGEN_URL_MAX - url->text.len) {
            return NGX_DECLINED;
        }

        ngx_memcpy(url->text.data + url->text.len, byte, len);
        url->text.len += len;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_vidgen_url_is_clean(ngx_str_t *text)
{
    u_char  ch;
    size_t  i;

    for (i = 0; i < text->len; i++) {
        ch = text->data[i];

        if (ch <= 0x20 || ch >= 0x7f || ch == '"' || ch == '<' || ch == '>'
            || ch == '\\' || ch == '#')
        {
            return 0;
        }
    }

    return 1;
}


size_t
ngx_vidgen_url_origin(ngx_str_t *text)
{
    size_t  i, scheme;

    if (text->len > 7
        && ngx_strncasecmp(text->data, (u_char *) "http://", 7) == 0)
    {
        scheme = 7;

    } else if (text->len > 8
               && ngx_strncasecmp(text->data, (u_char *) "https://", 8) == 0)
    {
        scheme = 8;

    } else {
        return 0;
    }

    for (i = scheme; i < text->len; i++) {

        if (text->data[i] == '@') {
            return 0;
        }

        if (text->data[i] == '/' || text->data[i] == '?') {
            break;
        }
    }

    return i > scheme && text->data[scheme] != ':' ? i : 0;
}


ngx_uint_t
ngx_vidgen_url_same_origin(ngx_str_t *a, ngx_str_t *b)
{
    size_t  len;

    len = ngx_vidgen_url_origin(a);

    return len > 0 && len == ngx_vidgen_url_origin(b)
           && ngx_strncasecmp(a->data, b->data, len) == 0;
}


size_t
ngx_vidgen_url_path_end(ngx_str_t *text)
{
    u_char  *p;

    p = ngx_strlchr(text->data, text->data + text->len, '?');

    return p ? (size_t) (p - text->data) : text->len;
}


ngx_int_t
ngx_vidgen_url_check_path(ngx_str_t *text, size_t start, ngx_uint_t slash)
{
    size_t   len;
    u_char  *p, *segment, *last;

    p = text->data + start;
    last = text->data + ngx_vidgen_url_path_end(text);

    if (p >= last) {
        return NGX_OK;
    }

    /* p is at the "/" before a segment */

    while (p < last) {

        segment = ++p;

        while (p < last && *p != '/') {
            p++;
        }

        len = p - segment;

        if ((len == 0 && (p < last || !slash))
            || (len == 1 && segment[0] == '.')
            || (len == 2 && segment[0] == '.' && segment[1] == '.'))
        {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}
