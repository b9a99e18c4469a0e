#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_conf_knob.h"
#include "http/ngx_http_vidgen_generate.h"
#include "http/ngx_http_vidgen_health.h"
#include "http/ngx_http_vidgen_job.h"
#include "http/ngx_http_vidgen_webhook.h"


static char *ngx_http_vidgen_conf_webhook_provider(ngx_conf_t *cf,
    ngx_http_vidgen_loc_conf_t *lcf, ngx_http_vidgen_location_t *location);
static char *ngx_http_vidgen_conf_role(ngx_conf_t *cf,
    ngx_http_vidgen_loc_conf_t *lcf, ngx_http_vidgen_role_e role,
    ngx_http_handler_pt handler, ngx_http_vidgen_location_t **location);


static ngx_http_vidgen_knob_t  ngx_http_vidgen_retry_knobs[] = {
    { "attempts=", NGX_HTTP_VIDGEN_NUMBER,
      offsetof(ngx_http_vidgen_loc_conf_t, retry_attempts), 1, 100 },
    { "backoff=", NGX_HTTP_VIDGEN_TIME,
      offsetof(ngx_http_vidgen_loc_conf_t, retry_backoff), 1, 0 },
    { "max=", NGX_HTTP_VIDGEN_TIME,
      offsetof(ngx_http_vidgen_loc_conf_t, retry_max), 1, 0 },
    { NULL, 0, 0, 0, 0 }
};


/* vidgen_generate [provider ...] */
char *
ngx_http_vidgen_conf_generate(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_loc_conf_t *lcf = conf;

    char                        *rv;
    ngx_str_t                   *value, *name;
    ngx_uint_t                   i;
    ngx_http_vidgen_location_t  *location;

    rv = ngx_http_vidgen_conf_role(cf, lcf, NGX_HTTP_VIDGEN_GENERATE,
                                   ngx_http_vidgen_generate_handler,
                                   &location);
    if (rv != NGX_CONF_OK || cf->args->nelts == 1) {
        return rv;
    }

    /* filled at the end, when all providers are known */

    lcf->candidates = ngx_array_create(cf->pool, 4,
                                       sizeof(ngx_vidgen_provider_t *));
    if (lcf->candidates == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        name = ngx_array_push(&location->names);
        if (name == NULL) {
            return NGX_CONF_ERROR;
        }

        *name = value[i];
    }

    return NGX_CONF_OK;
}


/* vidgen_webhook [provider] */
char *
ngx_http_vidgen_conf_webhook(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_loc_conf_t *lcf = conf;

    char                        *rv;
    ngx_http_vidgen_location_t  *location;

    rv = ngx_http_vidgen_conf_role(cf, lcf, NGX_HTTP_VIDGEN_WEBHOOK,
                                   ngx_http_vidgen_webhook_handler,
                                   &location);
    if (rv != NGX_CONF_OK || cf->args->nelts == 1) {
        return rv;
    }

    return ngx_http_vidgen_conf_webhook_provider(cf, lcf, location);
}


/* vidgen_verify provider | off */
char *
ngx_http_vidgen_conf_verify(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_loc_conf_t *lcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_http_vidgen_location_t  *location;

    /* the content is another module's */

    rv = ngx_http_vidgen_conf_role(cf, lcf, NGX_HTTP_VIDGEN_VERIFY, NULL,
                                   &location);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        return NGX_CONF_OK;
    }

    return ngx_http_vidgen_conf_webhook_provider(cf, lcf, location);
}


/* vidgen_dry_run on | off */
char *
ngx_http_vidgen_conf_dry_run(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_loc_conf_t *lcf = conf;

    char  *rv;

    rv = ngx_conf_set_flag_slot(cf, cmd, conf);

    if (rv == NGX_CONF_OK) {
        lcf->dry_run_file = cf->conf_file->file.name.data;
        lcf->dry_run_line = cf->conf_file->line;
    }

    return rv;
}


static char *
ngx_http_vidgen_conf_webhook_provider(ngx_conf_t *cf,
    ngx_http_vidgen_loc_conf_t *lcf, ngx_http_vidgen_location_t *location)
{
    ngx_str_t                         *value, *name;
    ngx_http_compile_complex_value_t   ccv;

    value = cf->args->elts;

    lcf->webhook_provider = ngx_palloc(cf->pool,
                                       sizeof(ngx_http_complex_value_t));
    if (lcf->webhook_provider == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = lcf->webhook_provider;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (lcf->webhook_provider->lengths) {
        return NGX_CONF_OK;
    }

    name = ngx_array_push(&location->names);
    if (name == NULL) {
        return NGX_CONF_ERROR;
    }

    *name = value[1];

    return NGX_CONF_OK;
}


/* vidgen_job */
char *
ngx_http_vidgen_conf_job(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_location_t  *location;

    return ngx_http_vidgen_conf_role(cf, conf, NGX_HTTP_VIDGEN_JOB,
                                     ngx_http_vidgen_job_handler, &location);
}


/* vidgen_health */
char *
ngx_http_vidgen_conf_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_location_t  *location;

    return ngx_http_vidgen_conf_role(cf, conf, NGX_HTTP_VIDGEN_HEALTH,
                                     ngx_http_vidgen_health_handler,
                                     &location);
}


/* vidgen_webhook_url base */
char *
ngx_http_vidgen_conf_webhook_url(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_vidgen_loc_conf_t *lcf = conf;

    ngx_str_t  *value;

    if (lcf->webhook_url.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strncasecmp(value[1].data, (u_char *) "https://", 8) != 0
        && ngx_strncasecmp(value[1].data, (u_char *) "http://", 7) != 0)
    {
        return "must be a URL that begins with \"https://\" or \"http://\"";
    }

    lcf->webhook_url = value[1];

    return NGX_CONF_OK;
}


/* for ngx_conf_set_msec_slot() */
char *
ngx_http_vidgen_conf_not_zero(ngx_conf_t *cf, void *post, void *data)
{
    return *(ngx_msec_t *) data ? NGX_CONF_OK : "must not be 0";
}


/* vidgen_retry attempts=N backoff=T [max=T] */
char *
ngx_http_vidgen_conf_retry(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_loc_conf_t *lcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (lcf->retry_attempts != NGX_CONF_UNSET_UINT
        || lcf->retry_backoff != NGX_CONF_UNSET_MSEC
        || lcf->retry_max != NGX_CONF_UNSET_MSEC)
    {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        if (!ngx_http_vidgen_conf_set_knob(cf, &value[i],
                                           ngx_http_vidgen_retry_knobs, lcf,
                                           &rv))
        {
            rv = ngx_http_vidgen_conf_invalid(cf, &value[i]);
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_role(ngx_conf_t *cf, ngx_http_vidgen_loc_conf_t *lcf,
    ngx_http_vidgen_role_e role, ngx_http_handler_pt handler,
    ngx_http_vidgen_location_t **location)
{
    ngx_str_t                    *value;
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_vidgen_main_conf_t  *mcf;

    if (lcf->role == role) {
        return "is duplicate";
    }

    if (lcf->role) {
        return "conflicts with another vidgen directive of this location";
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vidgen_module);

    if (handler) {
        clcf->handler = handler;
        lcf->handler = handler;
    }

    lcf->role = role;

    *location = ngx_array_push(&mcf->locations);
    if (*location == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    (*location)->conf = lcf;
    (*location)->ctx = cf->ctx;
    (*location)->directive = value[0];
    (*location)->file = cf->conf_file->file.name.data;
    (*location)->line = cf->conf_file->line;

    if (ngx_array_init(&(*location)->names, cf->pool, 2, sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_http_vidgen_conf_has_role(ngx_conf_t *cf, ngx_http_vidgen_role_e role)
{
    ngx_uint_t                    i;
    ngx_http_vidgen_location_t   *location;
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vidgen_module);
    location = mcf->locations.elts;

    for (i = 0; i < mcf->locations.nelts; i++) {
        if (location[i].conf->role == role) {
            return 1;
        }
    }

    return 0;
}
