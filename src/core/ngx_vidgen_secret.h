#ifndef _NGX_VIDGEN_SECRET_H_INCLUDED_
#define _NGX_VIDGEN_SECRET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * A setting written as env:NAME (declared to nginx, so that a binary upgrade
 * keeps it), file:/path (one final line break is dropped; relative to the
 * configuration's folder) or literally.
 */

/*
 * Reads spec into value.  NGX_OK; NGX_DECLINED: the variable is not set, the
 * file is not there, or either is empty; NGX_ERROR: logged (no memory, a file
 * that cannot be read).  Never logs the value.
 */
ngx_int_t ngx_vidgen_secret_read(ngx_conf_t *cf, ngx_str_t *spec,
    ngx_str_t *value);


#endif /* _NGX_VIDGEN_SECRET_H_INCLUDED_ */
