#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_id.h"
#include "base/ngx_vidgen_signature.h"
#include "base/ngx_vidgen_text.h"


/* lengths of the groups of a UUID in bytes */
static const u_char  ngx_vidgen_uuid_groups[] = { 4, 2, 2, 2, 6 };


ngx_int_t
ngx_vidgen_uuid7(u_char text[NGX_VIDGEN_UUID_LEN])
{
    u_char       bytes[16];
    uint64_t     ms;
    ngx_uint_t   i;
    ngx_time_t  *tp;

    if (ngx_vidgen_random(bytes, 16) != NGX_OK) {
        return NGX_ERROR;
    }

    tp = ngx_timeofday();
    ms = (uint64_t) tp->sec * 1000 + tp->msec;

    for (i = 0; i < 6; i++) {
        bytes[i] = (u_char) (ms >> (8 * (5 - i)));
    }

    bytes[6] = 0x70 | (bytes[6] & 0x0f);        /* version */
    bytes[8] = 0x80 | (bytes[8] & 0x3f);        /* variant */

    ngx_vidgen_uuid_print(text, bytes);

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_uuid_parse(ngx_str_t *text, u_char bytes[16])
{
    u_char      *p, *dst;
    ngx_str_t    group, out;
    ngx_uint_t   i;

    if (text->len != NGX_VIDGEN_UUID_LEN) {
        return NGX_DECLINED;
    }

    p = text->data;
    dst = bytes;

    for (i = 0; i < 5; i++) {

        if (i > 0 && *p++ != '-') {
            return NGX_DECLINED;
        }

        group.len = 2 * ngx_vidgen_uuid_groups[i];
        group.data = p;
        out.data = dst;

        if (ngx_vidgen_text_unhex(&out, &group) != NGX_OK) {
            return NGX_DECLINED;
        }

        p += group.len;
        dst += out.len;
    }

    return NGX_OK;
}


u_char *
ngx_vidgen_uuid_print(u_char *dst, u_char bytes[16])
{
    ngx_uint_t  i;

    for (i = 0; i < 5; i++) {

        if (i > 0) {
            *dst++ = '-';
        }

        dst = ngx_hex_dump(dst, bytes, ngx_vidgen_uuid_groups[i]);
        bytes += ngx_vidgen_uuid_groups[i];
    }

    return dst;
}
