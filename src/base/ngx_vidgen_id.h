#ifndef _NGX_VIDGEN_ID_H_INCLUDED_
#define _NGX_VIDGEN_ID_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_VIDGEN_UUID_LEN  36          /* text form, lower case */


/*
 * A new UUID of version 7 (RFC 9562) as text, 36 bytes, no final NUL.
 * NGX_ERROR: no random bytes.
 */
ngx_int_t ngx_vidgen_uuid7(u_char text[NGX_VIDGEN_UUID_LEN]);

/*
 * Reads a UUID of any version in its 8-4-4-4-12 form, either case, into 16
 * bytes.  NGX_DECLINED: not a UUID.
 */
ngx_int_t ngx_vidgen_uuid_parse(ngx_str_t *text, u_char bytes[16]);

/* Writes 16 bytes as lower-case text of 36 bytes; returns the end. */
u_char *ngx_vidgen_uuid_print(u_char *dst, u_char bytes[16]);


#endif /* _NGX_VIDGEN_ID_H_INCLUDED_ */
