#!/usr/bin/perl

# Not under valgrind: it measures time
#
# Webhooks that never come, or cannot be believed: the jobs end all the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 19;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(many post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 1000);

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    env  => { HOOK_SECRET => $provider->secret, VIDGEN_SECRET => 'capability' },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_secret   env:VIDGEN_SECRET;
    vidgen_monitor  poll=200ms overdue=8s interval=1h;

    vidgen_provider silent {
        submit  { url %%BASE%%/silent; body /webhook_url $vidgen_webhook_url;
                  job_id /request_id; }
        poll    { url %%BASE%%/requests/$vidgen_provider_job_id;
                  status /status; video_url /output/video_url; error /error; }
        webhook { signature hmac-sha256 header=X-Signature;
                  secret env:HOOK_SECRET; job_id /request_id;
                  status /status completed=completed *=failed;
                  video_url /output/video_url; error /error; }
    }
    vidgen_provider unsigned {
        submit  { url %%BASE%%/unsigned; body /webhook_url $vidgen_webhook_url;
                  job_id /request_id; }
        poll    { url %%BASE%%/requests/$vidgen_provider_job_id;
                  status /status; video_url /output/video_url; error /error; }
        webhook { signature token; job_id /request_id; status /status;
                  video_url /output/video_url; error /error; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        location = /generate-video    { vidgen_generate; }
        location = /hook              { vidgen_webhook; }
    }
}
EOT

my %done = (status => 'completed',
    output => { video_url => 'https://cdn.test/polled.mp4' });

sub generate {
    my ($name) = @_;
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'm', prompt => 'p', provider => $name });
    my ($request) = grep { $_->{uri} eq "/$name" }
        reverse @{ $provider->requests };
    return ($answer->{json}{job_id}, $request->{id},
        ($request->{body} // '') =~ /"webhook_url":"([^"]+)"/);
}

sub job {
    my ($job) = @_;
    return join ' ', map { $_ // '-' } @{ $pg->query("SELECT status, video_url
        FROM video_jobs WHERE id = '$job'")->[0] };
}

sub polls {
    my ($id) = @_;
    return scalar grep { $_->{uri} eq "/requests/$id" }
        @{ $provider->requests };
}


# a provider that never calls back

$provider->on(qr{GET /requests/}, body => \%done);
my @answers = many(60, 'POST', $nginx->url('/generate-video'),
    { 'Content-Type' => 'application/json' }, qq({"user_id":"$user",)
    . '"model_id":"m","prompt":"p","provider":"silent"}');
is(scalar(grep { $_->{status} == 200 } @answers), 60, 'accepted');
ok((wait_for { $pg->value("SELECT count(*) FROM video_jobs
    WHERE status = 'completed'
    AND video_url = 'https://cdn.test/polled.mp4'") == 60 }),
    'every job is completed');


# a webhook without a result URL

$provider->on(qr{GET /requests/}, body => { status => 'processing' });
my ($job, $id, $hook) = generate('silent');
my ($headers, $body) = $provider->signed_webhook(id => $id,
    more => { output => {} });
my $answer = post($hook, $body, $headers);
is($answer->{status}, 200, 'completed without a URL: taken');
unlike(job($job), qr/^completed/, 'but not believed');
ok((wait_for { polls($id) > 0 } 5), 'polled at once');
ok((wait_for { job($job) =~ /^processing/ }), 'the poll says: processing');
$provider->on(qr{GET /requests/\Q$id\E$}, body => \%done);
ok((wait_for { job($job) eq 'completed https://cdn.test/polled.mp4' }),
    'and then the result');


# a failure that only "*" produced

($job, $id, $hook) = generate('silent');
($headers, $body) = $provider->signed_webhook(id => $id,
    status => 'in_moderation');
is(post($hook, $body, $headers)->{status}, 200, 'an unknown word: taken');
ok((wait_for { polls($id) > 0 } 5), 'polled at once');
like(job($job), qr/^(?:queued|processing)/, 'it is no failure');
$provider->on(qr{GET /requests/\Q$id\E$}, body => \%done);
ok((wait_for { job($job) =~ /^completed/ }), 'the poll has the result');

($job, $id, $hook) = generate('silent');
($headers, $body) = $provider->signed_webhook(id => $id, status => 'exploded');
$provider->on(qr{GET /requests/\Q$id\E$},
    body => { status => 'failed', error => 'exploded' });
post($hook, $body, $headers);
ok((wait_for { job($job) =~ /^failed/ }), 'or confirms the failure');


# an unsigned one is believed after a poll only

($job, $id, $hook) = generate('unsigned');
like($hook, qr/&token=[0-9a-f]{32}$/, 'its URL has a capability');
(undef, $body) = $provider->signed_webhook(id => $id,
    video_url => 'https://evil.test/v.mp4');
is(post($hook, $body)->{status}, 200, 'an unsigned webhook: taken');
ok((wait_for { polls($id) > 0 } 5), 'polled at once');
unlike(job($job), qr/^completed/, 'not believed');
$provider->on(qr{GET /requests/\Q$id\E$}, body => \%done);
ok((wait_for { job($job) =~ /^completed/ }), 'the poll is');
is(job($job), 'completed https://cdn.test/polled.mp4', 'and what it says');

is_deeply([wrong_books($pg)], [], 'the books are right');
