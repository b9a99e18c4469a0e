#ifndef _NGX_VIDGEN_KEYRING_H_INCLUDED_
#define _NGX_VIDGEN_KEYRING_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_monitor_conf.h"
#include "core/ngx_vidgen_provider.h"


/*
 * The keys of providers whose signatures go with a key set ("jwks="), in a
 * process that verifies.  The monitor keeps the sets on the disk; here each is
 * read when the process starts, and again, by a timer and never by a request,
 * when the zone says that there is another one.
 */

#define NGX_VIDGEN_KEYRING_MAX  65536    /* bytes of a key set */


/* vidgen_state_path/NAME.jwks.json, NUL-terminated.  NGX_ERROR: no memory. */
ngx_int_t ngx_vidgen_keyring_file(ngx_pool_t *pool,
    ngx_vidgen_monitor_conf_t *conf, ngx_vidgen_provider_t *provider,
    ngx_str_t *file);

/* In a process with an event loop.  NGX_ERROR: no memory. */
ngx_int_t ngx_vidgen_keyring_start(ngx_cycle_t *cycle,
    ngx_vidgen_monitor_conf_t *conf);

void ngx_vidgen_keyring_stop(void);


#endif /* _NGX_VIDGEN_KEYRING_H_INCLUDED_ */
