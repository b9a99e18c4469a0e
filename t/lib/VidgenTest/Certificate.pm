package VidgenTest::Certificate;

# A certificate authority made for one test, and a certificate by it for
# localhost and 127.0.0.1 (or the names given).
#
#   my $certificate = VidgenTest::Certificate->new(names => ['DNS:other']);
#   $certificate->ca; $certificate->cert; $certificate->key;      # files

use strict;
use warnings;

use File::Temp ();
use IO::Socket::SSL;

use VidgenTest::Util qw(slurp spew);


sub new {
    my ($class, %opt) = @_;

    my $dir = File::Temp->newdir('vidgen-tls-XXXXXXXX', TMPDIR => 1);
    chmod 0755, "$dir";
    my $self = bless { dir => $dir }, $class;

    # nginx looks for an address among the names of hosts
    my $names = join ',', @{ $opt{names} // ['DNS:localhost',
        'IP:127.0.0.1', 'DNS:127.0.0.1'] };
    spew("$dir/extensions", "subjectAltName=$names\n");

    my $new_key = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes';
    $self->_openssl("req -x509 $new_key -days 2 -subj /CN=test-ca"
        . ' -keyout ca.key -out ca.crt');
    $self->_openssl("req $new_key -subj /CN=test -keyout key -out csr");
    $self->_openssl('x509 -req -in csr -CA ca.crt -CAkey ca.key'
        . ' -CAcreateserial -days 2 -extfile extensions -out crt');
    return $self;
}

sub ca   { "$_[0]{dir}/ca.crt" }
sub cert { "$_[0]{dir}/crt" }
sub key  { "$_[0]{dir}/key" }

sub _openssl {
    my ($self, $arguments) = @_;
    my $log = "$self->{dir}/log";
    system("cd $self->{dir} && openssl $arguments >log 2>&1") == 0
        or die 'openssl: ' . (slurp($log) // '');
}


# Makes an accepted socket the server's side of TLS, and returns what goes on
# with the handshake: 1 done, 0 not yet, undef failed.
sub serve {
    my ($self, $socket) = @_;

    $socket->blocking(0);
    IO::Socket::SSL->start_SSL($socket, SSL_server => 1,
        SSL_cert_file => $self->cert, SSL_key_file => $self->key,
        SSL_startHandshake => 0) or die "TLS: $SSL_ERROR";

    return sub {
        return 1 if $socket->accept_SSL;
        return 0 if $SSL_ERROR == SSL_WANT_READ
            || $SSL_ERROR == SSL_WANT_WRITE;
        return undef;
    };
}


1;
