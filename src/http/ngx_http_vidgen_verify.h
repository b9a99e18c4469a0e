#ifndef _NGX_HTTP_VIDGEN_VERIFY_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_VERIFY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * vidgen_verify: a webhook is verified and de-duplicated, then the location's
 * own content handler passes it on to the user's application.
 */

/*
 * Adds the phase handler and the header filter where a location verifies; at
 * the end of the configuration, after its checks.
 */
ngx_int_t ngx_http_vidgen_verify_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_VIDGEN_VERIFY_H_INCLUDED_ */
