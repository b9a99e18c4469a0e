#ifndef _NGX_HTTP_VIDGEN_CONF_PASS_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_CONF_PASS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"


/*
 * Checks that the vidgen_pass location of a vidgen_generate location is there
 * and safe: it proxies, never resends a request, survives the client, obeys
 * no X-Accel-Redirect, and finds every candidate's host.  NGX_ERROR: logged.
 */
ngx_int_t ngx_http_vidgen_check_pass(ngx_conf_t *cf,
    ngx_http_vidgen_location_t *location, ngx_array_t *candidates);

/*
 * The proxy_ssl_trusted_certificate of the vidgen_pass location in the server
 * of a location; empty where there is no such location or no certificate.
 */
void ngx_http_vidgen_pass_certificate(ngx_conf_t *cf,
    ngx_http_vidgen_location_t *location, ngx_str_t *file);


#endif /* _NGX_HTTP_VIDGEN_CONF_PASS_H_INCLUDED_ */
